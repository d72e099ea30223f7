"""The bench: a press, its command, the mic state, the light, side by side with other programs that do the same job.

    python3 tests/bench [--quick] [--rounds N] [--rows daemon,c,paho,aiomqtt,bare] [--json]
    python3 tests/bench --attached [--quick] [--json]
    python3 tests/bench --page [--quick]

Everything runs on this machine: a mosquitto of the bench's own on loopback, buttons that are ptys, and for each program
a station with a session controller, the same C program (controller.c) in every row. A press is the line `press` on the
pty; it ends when the lamp has got the line of the new state. The player of the buttons is C as well (button.c), so that
what is measured is the bridge.

    daemon   this project: `mutebridge run`, a serial button by line protocol
    c        rivals/bridge.c, the bridge's job in C: what the broker, the pty and the kernel cost at least
    paho     rivals/paho_afternoon.py, what one writes in an afternoon with paho's loop_start
    aiomqtt  rivals/aiomqtt_afternoon.py, the same with aiomqtt
    bare     rivals/bare_start.py, imports the daemon's libraries, connects; no bridge, for the start only

Figures
    round trip   microseconds; p50 is the median of the blocks' medians, p90 and p99 are of all presses; `x C` is the
                 median over the rounds of the ratio to C's block in the same round. Back to back the caches are warm;
                 at a person's pace, a press every 150 ms, they are not.
    CPU us       the scheduler's run time of all the program's threads, for each press: what waiting does not hide
    presses/commands   what the buttons pressed, what the controller acted on; a row in which they differ has failed
    idle         broker up, controller online, no call, three buttons, a service manager with a watchdog. Wake-ups are
                 the voluntary context switches of all threads, CPU the scheduler's run time of all threads. A
                 terminal that somebody opens or closes meanwhile counts: the daemon watches where its ptys are.
    in a call    the same, connected, while the controller repeats its mic state every 5 s
    RSS, PSS     VmRSS, and the proportional share from smaps_rollup, at the end of the idle time
    exec to ready   from exec to the retained birth at the broker, with READY=1 where the program notifies; a median

`--attached` measures the daemon alone, with no device, with three headsets, and with three serial buttons beside them.
The headsets are HID devices to the kernel, made through /dev/uhid; where there is none, in the lab's virtual machine
(tests/lab), where times mean nothing but wake-ups are counted all the same.

No test holds a time against a limit: the targets are printed with what was measured. Exit code 0 when every row ran.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one place where an older one arrives
    sys.exit("mutebridge's bench needs Python 3.11 or newer; this is {}.{}.{}".format(*sys.version_info))

import os
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS.parent / "daemon")]

import bootstrap  # noqa: E402 - found by the line above

NEEDED = ("aiomqtt", "hidraw", "msgspec", "paho.mqtt", "playwright", "pyudev", "serial", "yaml")


def enter_environment() -> None:
    """Start again in the environment of the tests, made where needed, unless this Python has all that is compared."""
    if all(_is_here(name) for name in NEEDED):
        return
    with bootstrap.errors_for_people():
        python = str(bootstrap.set_up({"test"}) / "bin" / "python")
        os.execv(python, [python, str(TESTS / "bench"), *sys.argv[1:]])


def _is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    enter_environment()
    from tests.bench.command import main

    sys.exit(main(__doc__))
