"""`mutebridge demo`: everything at work on one machine that needs neither hardware, nor a softphone, nor a broker.

It brings up a broker, a simulated softphone, a virtual serial button on a pty, a virtual headset where the kernel lets
it, then the real daemon as a process of its own. In a terminal it shows them live, with keys to play the person.
Elsewhere it plays a scripted call, prints the timeline, ends with 0 only if every light told the truth. A real button
that is plugged in joins in; so does a browser, with --page.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from mutebridge.demo.page import DemoPage, broker_with_page
from mutebridge.demo.scene import Scene, SceneError
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import LocalBroker, LocalBrokerError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.add_argument("--scripted", action="store_true", help="play the scripted call although this is a terminal")
    parser.add_argument(
        "--broker",
        choices=["any", "mosquitto", "amqtt"],
        default="any",
        help="by default one that listens already on this machine, else mosquitto, else amqtt inside the demo",
    )
    parser.add_argument(
        "--page",
        action="store_true",
        help="with a softphone page for the browser beside the simulated softphone; over a broker of the demo's own",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=local_broker.DEFAULT_PORT,
        help="where one may listen already, on loopback (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Show or play; return the exit status."""
    play = _script() if args.scripted or not _is_terminal() else _live_view()
    try:
        with _stage(args) as (broker, page), Scene(broker, page) as scene:
            return play(scene)
    except (LocalBrokerError, SceneError) as error:
        sys.stderr.write(f"mutebridge demo: {error}\n")
        return os.EX_UNAVAILABLE


@contextlib.contextmanager
def _stage(args: argparse.Namespace) -> Iterator[tuple[LocalBroker, DemoPage | None]]:
    if args.page:
        if args.broker == "mosquitto":
            raise LocalBrokerError("--page comes with amqtt, which looks where a page comes from; leave out --broker")
        with broker_with_page() as both:
            yield both
        return
    with local_broker.bring_up(
        port=args.port, prefer_existing=args.broker == "any", prefer_mosquitto=args.broker != "amqtt"
    ) as broker:
        yield broker, None


def _is_terminal() -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # a stream that is closed, or was never there
        return sys.stdin.isatty() and sys.stdout.isatty()
    return False


def _script() -> Callable[[Scene], int]:
    from mutebridge.demo.script import play  # noqa: PLC0415 - only one of the two is needed

    return play


def _live_view() -> Callable[[Scene], int]:
    from mutebridge.demo.live_view import show  # noqa: PLC0415 - needs rich, which the script does without

    return show
