"""`mutebridge pair`: a credential for one controller of one station, in the form in which the controller takes it.

The broker that the daemon brings along is told through its file of controllers, and takes the credential over at once.
For another one, mosquitto's files are changed where they are named, else what belongs in them is printed on standard
error. Standard output has nothing but the pairing: it is the only place where the password is ever written.
"""

import argparse
import errno
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from mutebridge.config import Config
from mutebridge.core import mosquitto_lists
from mutebridge.core.access import controller_grants, controller_user
from mutebridge.core.contract import Topics, valid_name
from mutebridge.core.pairing import PROGRAM_SCHEMES, WEB_SCHEMES, Pairing, check_broker, check_page
from mutebridge.core.password_hash import SALT_BYTES, hash_of
from mutebridge.core.web_page import origin_of
from mutebridge.edges.broker.settings import is_this_machine
from mutebridge.edges.local_broker import Credential, CredentialsError, CredentialsFile, replacing

PASSWORD_BYTES = 18
PAGE_PORT = 9002
DEFAULT_PAGE = f"http://127.0.0.1:{PAGE_PORT}/"


class _NoGoodError(Exception):
    """What the person asked for cannot be; `status` is the exit status."""

    def __init__(self, message: str, status: int = os.EX_USAGE) -> None:
        super().__init__(message)
        self.status = status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.add_argument("--name", default="softphone", help="of the controller, in its topics (default: %(default)s)")
    parser.add_argument("--station", help="of another workstation, for its broker elsewhere (default: this one's)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--link",
        nargs="?",
        const=DEFAULT_PAGE,
        metavar="PAGE",
        help="for a person: the address of the softphone's page, by default that of `mutebridge controller-page`,"
        " with the pairing behind the #, which a browser sends to no server; this is the default form",
    )
    form.add_argument("--json", action="store_true", help="for managed deployment: the same as one JSON object")
    form.add_argument("--env", action="store_true", help="for a program: environment variables, MUTEBRIDGE_BROKER=...")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a page of this origin may use it, such as https://softphone.example.com; --link knows that of its page",
    )
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="where the controller reaches a broker that is not the daemon's own: wss://..., with --env mqtts://...",
    )
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="mosquitto's, in which to put the credential"
    )
    parser.add_argument("--acl-file", type=Path, metavar="FILE", help="mosquitto's, in which to put what it may do")
    parser.add_argument("--revoke", action="store_true", help="take the credential back instead")
    parser.add_argument("--config", type=Path, metavar="FILE", help="by default /etc/mutebridge/mutebridge.yaml")


def main(args: argparse.Namespace, config: Config) -> int:
    """Pair, or revoke; return the exit status."""
    try:
        _revoke(args, config) if args.revoke else _pair(args, config)
    except ValueError as error:
        return _complain(str(error), os.EX_USAGE)
    except _NoGoodError as error:
        return _complain(str(error), error.status)
    except CredentialsError as error:
        return _complain(_with_advice(str(error), error.errno), _status(error.errno))
    except BrokenPipeError:  # nobody reads what is printed
        raise
    except OSError as error:
        return _complain(_with_advice(f"{error.filename}: {error.strerror}", error.errno), _status(error.errno))
    return os.EX_OK


def new_pairing(broker: str, station: str, name: str, prefix: str) -> Pairing:
    """Return a pairing with a password that is made up; ValueError for names and addresses that cannot be."""
    station, name = valid_name("station", station), valid_name("name", name)
    return Pairing(
        broker=broker,
        station=station,
        name=name,
        username=controller_user(station, name),
        password=secrets.token_urlsafe(PASSWORD_BYTES),
        prefix=prefix,
    )


def issue(pairing: Pairing, credentials: CredentialsFile, origins: Iterable[str] = ()) -> None:
    """Make a pairing good at the broker that the daemon brings along, in the place of the controller's last one."""
    credentials.put(
        Credential(
            user=pairing.username,
            password_hash=_hash(pairing),
            prefix=pairing.prefix,
            origins=tuple(sorted(set(origins))),
        )
    )


def embedded_websocket(config: Config) -> str:
    """Return where a page reaches the broker that the daemon brings along."""
    port = config.embedded_broker.websocket_port
    if not port:
        raise ValueError(
            "embedded_broker.websocket_port is 0, so no page can reach the broker; give it one, such as 9001"
        )
    return f"ws://127.0.0.1:{port}"


def _pair(args: argparse.Namespace, config: Config) -> None:
    page = None if args.json or args.env else args.link or DEFAULT_PAGE
    check_page(page or "")
    origins = {origin_of(origin) for origin in [*args.origin, *([page] if page is not None else [])]}
    if _is_embedded(args, config):
        broker = f"mqtt://127.0.0.1:{config.broker.effective_port}" if args.env else embedded_websocket(config)
        pairing = new_pairing(broker, config.station, args.name, config.prefix)
        issue(pairing, CredentialsFile(config.embedded_broker.file), origins)
        _tell(f"{pairing.username}: noted in {config.embedded_broker.file}, for `mutebridge run --embedded-broker`")
        if args.json and not origins and not config.embedded_broker.origins:
            _tell("no page may use it before --origin, or embedded_broker.origins, says where it comes from")
    else:
        if args.origin:
            raise _NoGoodError("--origin: mosquitto does not look at where a page comes from, only at its password")
        broker = _foreign_broker(args, config)
        pairing = new_pairing(broker, args.station or config.station, args.name, config.prefix)
        _put_in_mosquitto(args, pairing)
    text = pairing.environment() if args.env else f"{pairing.json() if page is None else pairing.link(page)}\n"
    sys.stdout.write(text)
    sys.stdout.flush()


def _is_embedded(args: argparse.Namespace, config: Config) -> bool:
    """Whether it is for the broker of this workstation, so that its file is the one to change."""
    if args.broker or args.password_file or args.acl_file or not is_this_machine(config.broker.host):
        return False
    if args.station and valid_name("station", args.station) != config.station:
        raise _NoGoodError(
            f"--station {args.station}: the daemon's own broker is for {config.station} alone; --broker?"
        )
    return True


def _foreign_broker(args: argparse.Namespace, config: Config) -> str:
    schemes = PROGRAM_SCHEMES if args.env else WEB_SCHEMES
    if args.broker:
        check_broker(args.broker, schemes)
        return str(args.broker)
    if not args.env:
        raise _NoGoodError("--broker wss://host:port is missing: where a page reaches the broker")
    return config.broker.url


def _put_in_mosquitto(args: argparse.Namespace, pairing: Pairing) -> None:
    user, hashed = pairing.username, _hash(pairing)
    grants = controller_grants(Topics(pairing.station, pairing.prefix), pairing.name)
    # What it may do first: a password that opens nothing is of no use to anybody.
    _change(args.acl_file, lambda text: mosquitto_lists.with_grants(text, user, grants))
    _change(args.password_file, lambda text: mosquitto_lists.with_password(text, user, hashed))
    if args.acl_file is None:
        lines = "\n".join(mosquitto_lists.access_lines(user, grants))
        _tell(f"this belongs in mosquitto's acl_file:\n\n{lines}\n")
    if args.password_file is None:
        _tell(f"this belongs in mosquitto's password_file:\n\n{user}:{hashed}\n")
    _tell("mosquitto reads them when it is told: systemctl reload mosquitto")


def _revoke(args: argparse.Namespace, config: Config) -> None:
    user = controller_user(args.station or config.station, args.name)
    if _is_embedded(args, config):
        known = CredentialsFile(config.embedded_broker.file).remove(user)
        _tell(f"{user}: {'is not let in any more' if known else 'was not paired'}")
        return
    if args.password_file is None and args.acl_file is None:
        raise _NoGoodError("--revoke: name mosquitto's --password-file and --acl-file")
    known = _change(args.password_file, lambda text: mosquitto_lists.without_password(text, user))
    known = _change(args.acl_file, lambda text: mosquitto_lists.without_grants(text, user)) or known
    _tell(f"{user}: {'taken out; then: systemctl reload mosquitto' if known else 'was not there'}")


def _change(file: Path | None, changed: Callable[[str], str]) -> bool:
    if file is None:
        return False
    try:
        return replacing.change(file, changed)
    except FileNotFoundError:
        raise _NoGoodError(f"{file}: there is no such folder", os.EX_NOINPUT) from None
    except UnicodeDecodeError:
        raise _NoGoodError(f"{file}: is not text", os.EX_DATAERR) from None


def _hash(pairing: Pairing) -> str:
    return hash_of(pairing.password, os.urandom(SALT_BYTES))


def _with_advice(message: str, number: int | None) -> str:
    mended = {errno.EACCES: "as root, or as the user whose it is", errno.EPERM: "as root"}.get(number or 0)
    return f"{message}; do it {mended}" if mended else message


def _status(number: int | None) -> int:
    if number in (errno.EACCES, errno.EPERM):
        return os.EX_NOPERM
    return os.EX_DATAERR if number is None else os.EX_CANTCREAT


def _tell(message: str) -> None:
    sys.stderr.write(f"mutebridge pair: {message}\n")


def _complain(message: str, status: int) -> int:
    _tell(message)
    return status
