"""Builds the lab, or opens it for a look: `sudo python3 tests/lab build`, `python3 tests/lab shell 'lsmod'`."""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.lab import native, vm  # noqa: E402 - found by the line above
from tests.lab.prerequisites import PrerequisiteError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 tests/lab", description=__doc__)
    parser.add_argument("--native", action="store_true", help="systemd in namespaces instead of the virtual machine")
    parser.add_argument("what", choices=["build", "shell"])
    parser.add_argument(
        "script", nargs="?", default="systemctl --no-pager status", help="for `shell`: what to run inside"
    )
    wanted = parser.parse_args()
    started = time.monotonic()

    def say(progress: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {progress}", file=sys.stderr, flush=True)

    try:
        start = native.starter(say) if wanted.native else vm.starter(say)
    except PrerequisiteError as missing:
        print(f"The lab cannot run here: {missing}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    if wanted.what == "build":
        return 0
    guest = start(False)
    say("the guest is there")
    try:
        status, written = guest.agent.shell(wanted.script, timeout_s=600)
    finally:
        guest.close()
    say("done")
    print(written, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
