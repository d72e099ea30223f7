"""`mutebridge controller-page`: the softphone page for trying a button, paired, on this machine.

It needs a running broker that the daemon brought along, and pairs the page with that; with another one the person
pairs the page.
"""

import argparse
import os
import signal
import socket
import sys
import webbrowser
from pathlib import Path

from mutebridge.config import Config
from mutebridge.controller.page_server import PageServer
from mutebridge.core.pairing import WEB_SCHEMES, check_broker
from mutebridge.edges.local_broker import CredentialsError, CredentialsFile, Listening, probe
from mutebridge.edges.local_broker.listening import LOOPBACK
from mutebridge.pair import PAGE_PORT, embedded_websocket, issue, new_pairing

_ANSWER_TIMEOUT_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.add_argument("--port", type=_port, default=PAGE_PORT, help="0: any free one (default: %(default)s)")
    parser.add_argument("--name", default="page", help="of this controller, in its topics (default: %(default)s)")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="ws:// or wss:// of another broker; the page then asks for the link of a pairing",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="by default /etc/mutebridge/mutebridge.yaml")


def main(args: argparse.Namespace, config: Config) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    for ends in (signal.SIGINT, signal.SIGTERM):  # a shell's background process is started with SIGINT ignored
        signal.signal(ends, signal.default_int_handler)
    try:
        if args.broker:
            check_broker(args.broker, WEB_SCHEMES)
        broker = args.broker or embedded_websocket(config)
        with PageServer(broker, port=args.port) as server:
            visit = _Visit(server, args, config)
            return visit.unpaired() if args.broker else visit.paired(broker)
    except KeyboardInterrupt:
        return os.EX_OK
    except ValueError as error:
        return _complain(str(error), os.EX_USAGE)
    except CredentialsError as error:
        return _complain(f"{error}; pairing takes its owner, or root", os.EX_NOPERM)
    except BrokenPipeError:  # nobody reads what is printed
        raise
    except OSError as error:
        where = error.filename or f"port {args.port} (--port 0 is any free one)"
        return _complain(f"{where}: {error.strerror}", os.EX_UNAVAILABLE)


class _Visit:
    """One run of the command."""

    def __init__(self, server: PageServer, args: argparse.Namespace, config: Config) -> None:
        self._server = server
        self._args = args
        self._config = config

    def unpaired(self) -> int:
        page = self._server.url
        _say(f"{page}\nPair it: mutebridge pair --broker {self._args.broker} --link {page}\n")
        return self._wait(page)

    def paired(self, broker: str) -> int:
        config = self._config
        port = config.broker.effective_port
        if probe(LOOPBACK, port, _ANSWER_TIMEOUT_S) is Listening.NOTHING:
            return _complain(
                f"no broker listens at {LOOPBACK}:{port}. In another terminal: mutebridge run --embedded-broker",
                os.EX_UNAVAILABLE,
            )
        pairing = new_pairing(broker, config.station, self._args.name, config.prefix)
        issue(pairing, CredentialsFile(config.embedded_broker.file), self._server.origins)
        known = probe(LOOPBACK, port, _ANSWER_TIMEOUT_S, user=pairing.username, password=pairing.password)
        if known is not Listening.OPEN_BROKER:
            return _complain(
                f"the broker at {LOOPBACK}:{port} does not know {config.embedded_broker.file}: it is not the one of"
                " `mutebridge run --embedded-broker`, or has another credentials_file. For another broker: --broker",
                os.EX_UNAVAILABLE,
            )
        first = self._server.door(pairing)
        self._server.on_used = lambda: _say(
            f"Paired. For another browser, in its place: {self._server.door(pairing)}\n"
        )
        _say(f"{first}\nThe link is good once. Ctrl-C ends the page.\n")
        return self._wait(first)

    def _wait(self, address: str) -> int:
        if self._args.open and not webbrowser.open(address):
            _complain("no browser is found; open the address by hand", os.EX_OK)
        # Unlike a pause, it is also ended by a signal that comes just before, or to a thread of the server.
        woken, wakes = socket.socketpair()
        with woken, wakes:
            wakes.setblocking(False)
            signal.set_wakeup_fd(wakes.fileno())
            try:
                while True:
                    woken.recv(1)  # the signal's handler ends it
            finally:
                signal.set_wakeup_fd(-1)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port, 0 to 65535")
    return int(text)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"mutebridge controller-page: {message}\n")
    return status
