"""`mutebridge lights-off`: darkens every button, for when the daemon cannot do it any more.

systemd runs it whatever ended the daemon (`ExecStopPost`). It opens the devices that the daemon would have open, with
the same configuration, profiles and edges, shows each the last lights and closes it, all at the same time; it needs no
broker and sends no command, so it cannot unmute. It also gives back a mute key that a killed daemon had kept from the
desktop, as every opening does.

A board that boots when its port is opened is waited for, since it would not hear before. No device is waited for longer
than `OPEN_S`: one that hangs, or that another program holds, is named.
"""

import argparse
import logging
import os
import threading
import time
from pathlib import Path

from mutebridge import config as configuration
from mutebridge.attachments import Attachments
from mutebridge.config import Config, ConfigError
from mutebridge.core.events import DeviceAttached, Event, Level
from mutebridge.edges import journal_log

OPEN_S = 3.0
CLOSE_S = 2.0

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="by default /etc/mutebridge/mutebridge.yaml")


def main(args: argparse.Namespace) -> int:
    """Darken; return 0, or 75 when a device could not be told."""
    if os.environ.get("SERVICE_RESULT") == "success":
        return os.EX_OK  # the daemon ended in order, and did it itself
    journal_log.start(Level.WARNING)
    left = darken(_configuration(args.config))
    for device_id in left:
        _log.warning("%s: its lights could not be put out", device_id)
    return os.EX_TEMPFAIL if left else os.EX_OK


def darken(config: Config | None) -> list[str]:
    """Show every device that is there the last lights; return the ids of those that could not be told.

    None: the devices that are known without a configuration.
    """
    arrivals = _Arrivals()
    attachments = Attachments(arrivals.feed, time.monotonic, configuration.load_profiles())
    if config is not None:
        attachments.configure(config.devices, known_devices=config.known_devices)
    there = {seen.device_id for seen in attachments.describe() if seen.device_id and seen.state == "closed"}
    attachments.start()
    missed = there - arrivals.wait_for(there, OPEN_S)
    return sorted(missed.union(attachments.stop(CLOSE_S)))


def _configuration(file: Path | None) -> Config | None:
    try:
        return configuration.load(file)
    except ConfigError:
        _log.warning("the configuration is wrong (see `mutebridge check`): only buttons that are known are darkened")
        return None


class _Arrivals:
    """Which devices have been opened."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._more = threading.Condition()

    def feed(self, event: Event) -> None:
        if isinstance(event, DeviceAttached):
            with self._more:
                self._ids.add(event.device.id)
                self._more.notify()

    def wait_for(self, ids: set[str], timeout_s: float) -> set[str]:
        """Wait until all of these are open, no longer than `timeout_s`; return which are."""
        with self._more:
            self._more.wait_for(lambda: ids <= self._ids, timeout_s)
            return set(self._ids)
