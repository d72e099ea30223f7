"""The browser's module as it is shipped: built from what lies beside it, described by its types, part of the wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.integration.browser_page import FOLDER

from mutebridge.controller import page_server

ROOT = Path(__file__).parents[2]
INSIDE = "mutebridge/controller/browser/"
NPM = shutil.which("npm")

needs_npm = pytest.mark.skipif(NPM is None, reason="needs npm; type: sudo apt install nodejs npm")


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder elsewhere, built anew with nothing but what is committed."""
    folder = tmp_path_factory.mktemp("browser") / "browser"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "mutebridge-controller.js").unlink()
    run(str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    run(str(NPM), "run", "build", cwd=folder)
    return folder


@needs_npm
@pytest.mark.timeout(600)
def test_it_is_built_to_the_same_bytes(built: Path) -> None:
    name = "mutebridge-controller.js"
    assert (built / name).read_bytes() == (FOLDER / name).read_bytes(), "type: npm ci && npm run build"


@needs_npm
@pytest.mark.timeout(600)
def test_its_types_are_what_it_is(built: Path) -> None:
    run(str(NPM), "run", "check", cwd=built)


def test_it_names_the_licences_of_what_it_contains() -> None:
    notices, end, _ = (FOLDER / "mutebridge-controller.js").read_text().partition("*/")
    assert end
    for package in ("mqtt 5", "mqtt-packet 9", "readable-stream 4", "buffer 6", "lru-cache 10"):
        assert f"\n{package}" in notices
    assert notices.count("WITHOUT WARRANTY OF ANY KIND") > 8


def test_the_lock_file_names_no_host() -> None:
    lock = (FOLDER / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock


@pytest.mark.timeout(600)
def test_the_wheel_has_it_without_what_it_was_built_with(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "daemon", project / "daemon", ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    litter = project / "daemon" / INSIDE / "node_modules" / "litter.js"
    litter.parent.mkdir()
    litter.write_text("")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), ".", cwd=project)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    types = {file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*.d.ts") if "node_modules" not in file.parts}
    served = {path.removeprefix("/") for path in page_server._files(FOLDER)} - {""}
    assert {name.removeprefix(INSIDE) for name in names if name.startswith(INSIDE)} == types | served
