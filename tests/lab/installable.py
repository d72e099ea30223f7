"""Makes the folder of wheels from which a guest, which has no network, installs the working tree."""

import os
import subprocess
import sys
from pathlib import Path

from tests.lab import cache, image
from tests.lab.image import PYTHON_VERSION, Say
from tests.lab.tree import ROOT


def wheels(say: Say) -> Path:
    """Return the folder, filled by the project's command for it; what the tree depends on is the guest's own."""
    packages = image.root(say) / "opt/lab/wheels"
    key = cache.digest("tree", PYTHON_VERSION, str(packages), ROOT / "pyproject.toml", ROOT / "daemon")
    return cache.made("tree", key, lambda folder: _fill(folder, packages))


def _fill(folder: Path, packages: Path) -> None:
    command: list[str | Path] = [sys.executable, ROOT / "daemon", "wheels", "--python-version", PYTHON_VERSION, folder]
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages)}
    filled = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if filled.returncode:
        raise RuntimeError(f"the tree's wheels could not be made:\n{filled.stdout}{filled.stderr}")
