"""`mutebridge doctor`: finds out what is wrong in the field, and says the remedy.

It looks (`machine`, `broker_visit`), then judges what was found (`judgement`, `broker_judgement`, which are pure), and
shows the findings (`findings`). It changes nothing, opens no device, and runs beside the daemon or without it. Whatever
does not answer in time is a finding as well.
"""

import argparse
import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from mutebridge import config as configuration
from mutebridge.config import Config, ConfigError, ConfigFileError
from mutebridge.doctor import broker_judgement, judgement
from mutebridge.doctor.broker_visit import visit_broker
from mutebridge.doctor.facts import BrokerFacts, ConfigFacts, MachineFacts, ServiceFacts
from mutebridge.doctor.findings import Finding, Report, State
from mutebridge.doctor.machine import UNIT, ask_systemd, look

TIMEOUT_S = 10.0
_MIN_TIMEOUT_S, _MAX_TIMEOUT_S = 1.0, 600.0
# Of the whole time: for systemd, and for the broker after it.
_SYSTEMD_SHARE, _VISIT_SHARE = 0.2, 0.7
_MIN_WIDTH, _MAX_WIDTH = 60, 110

_SLOW_MACHINE = "give it more time with --timeout; else dmesg tells which device hangs"
_SLOW_LOOK_UP = "give it more time with --timeout; is the look-up of names slow here? getent hosts NAME tells"

_T = TypeVar("_T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="by default /etc/mutebridge/mutebridge.yaml")
    parser.add_argument("--json", action="store_true", help="for a program that reads it")
    parser.add_argument(
        "--timeout",
        type=_timeout_s,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help=f"what is not known by then is a problem; {TIMEOUT_S:g} by default",
    )


def main(args: argparse.Namespace) -> int:
    """Examine, show, return the exit status: 0, 1 with a warning, 2 with a problem."""
    report = Report.of(examine(args.config, args.timeout))
    if args.json:
        sys.stdout.write(report.as_json())
    else:
        width = max(_MIN_WIDTH, min(_MAX_WIDTH, shutil.get_terminal_size().columns))
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.write(report.as_text(width, coloured=coloured))
    sys.stdout.flush()
    return report.exit_status


def examine(config_path: Path | None, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Return all findings, within `timeout_s` whatever hangs."""
    deadline = time.monotonic() + timeout_s
    config, config_facts = _read(config_path)
    service = ask_systemd(_SYSTEMD_SHARE * timeout_s)
    visit_s = _VISIT_SHARE * timeout_s
    file = Path(config_facts.file) if config_facts.file else None
    looking = _Task(lambda: look(config, file, service))
    visiting = _Task(lambda: visit_broker(_with_password(config, service), visit_s)) if config else None
    machine = looking.result(deadline)
    broker = visiting.result(deadline) if visiting is not None else None
    return [
        *judgement.config_findings(config_facts),
        *_of_broker(config, broker, machine),
        *(judgement.machine_findings(machine) if machine is not None else [_too_slow("machine", _SLOW_MACHINE)]),
    ]


def _timeout_s(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _MIN_TIMEOUT_S <= seconds <= _MAX_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"{text!r}: {_MIN_TIMEOUT_S:g} to {_MAX_TIMEOUT_S:g} seconds")
    return seconds


def _read(path: Path | None) -> tuple[Config | None, ConfigFacts]:
    found = configuration.find_file(path)
    file = str(found) if found is not None else None
    try:
        return configuration.load(path), ConfigFacts(file=file)
    except ConfigFileError as error:
        unreadable = error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0
        return None, ConfigFacts(file=file, problems=_said(error), unreadable=unreadable)
    except ConfigError as error:
        return None, ConfigFacts(file=file, problems=_said(error))


def _said(error: ConfigError) -> tuple[str, ...]:
    return tuple(str(problem) for problem in error.problems)


def _with_password(config: Config, service: ServiceFacts) -> Config:
    """Let a password that systemd gives the service be read where the service reads it, or else where systemd does."""
    name = config.broker.password_credential
    if name is None or os.environ.get("CREDENTIALS_DIRECTORY"):
        return config
    given = Path("/run/credentials", UNIT, name)
    path = str(given) if os.access(given, os.R_OK) else service.credentials.get(name)
    if path is None:
        return config
    broker = msgspec.structs.replace(config.broker, password_credential=None, password_file=path)
    return msgspec.structs.replace(config, broker=broker)


def _of_broker(config: Config | None, broker: BrokerFacts | None, machine: MachineFacts | None) -> Iterator[Finding]:
    if broker is not None:
        yield from broker_judgement.broker_findings(broker, machine)
    elif config is not None:
        yield _too_slow("broker", _SLOW_LOOK_UP, config.broker.url)
    else:
        for name in broker_judgement.CHECKS:
            yield Finding(name, State.CANNOT_TELL, "without the configuration", "mend the configuration first")


def _too_slow(name: str, remedy: str, about: str | None = None) -> Finding:
    return Finding(name, State.PROBLEM, "no answer in time", remedy, about)


class _Task(Generic[_T]):
    """Something that may hang, in a thread that is left behind then."""

    def __init__(self, do: Callable[[], _T]) -> None:
        self._do = do
        self._done: _T | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, deadline: float) -> _T | None:
        """Return what it returns, None when it is not done by `deadline`; raise what it raises, which is a bug."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._error is not None:
            raise self._error
        return self._done

    def _run(self) -> None:
        try:
            self._done = self._do()
        except Exception as error:  # it is carried to the thread that asked
            self._error = error
