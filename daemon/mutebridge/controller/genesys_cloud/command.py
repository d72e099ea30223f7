"""`mutebridge controller genesys-cloud`: the command line of this controller.

Options, with environment variables as their defaults, since that is what `mutebridge pair --env` prints and what a unit
reads; no file of its own. Secrets are never options.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from mutebridge.config import host_station
from mutebridge.controller.genesys_cloud import regions
from mutebridge.controller.genesys_cloud.adapter import Adapter
from mutebridge.controller.genesys_cloud.exchange import ExchangeError
from mutebridge.controller.genesys_cloud.login import (
    LoginError,
    OAuthClient,
    Tokens,
    read_secret,
    read_stored,
    read_supplied,
    write_stored,
)
from mutebridge.controller.genesys_cloud.sign_in import DEFAULT_REDIRECT_URI, sign_in
from mutebridge.controller.paired import Paired, paired_from_environment
from mutebridge.core.contract import DEFAULT_PREFIX
from mutebridge.core.events import Level
from mutebridge.edges import journal_log
from mutebridge.edges.broker import BrokerSettings, TlsSettings

_BROKER = "mqtt://localhost"
_NAME = "genesys-cloud"
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str] = os.environ) -> None:
    """Add what `main` reads."""
    parser.add_argument("softphone", choices=["genesys-cloud"], help="the Platform API of Genesys Cloud")
    parser.add_argument("action", nargs="?", choices=["run", "login"], default="run", help="default: %(default)s")
    genesys = parser.add_argument_group("Genesys Cloud")
    genesys.add_argument(
        "--region",
        default=environ.get("GENESYS_CLOUD_REGION"),
        help="such as eu-central-1 or mypurecloud.de (default: $GENESYS_CLOUD_REGION)",
    )
    genesys.add_argument(
        "--client-id",
        metavar="ID",
        default=environ.get("GENESYS_CLOUD_CLIENT_ID"),
        help="of the OAuth client, with the grant type Code Authorization (default: $GENESYS_CLOUD_CLIENT_ID)",
    )
    genesys.add_argument(
        "--client-secret-file", metavar="FILE", type=Path, help="of an OAuth client that has one; PKCE needs none"
    )
    genesys.add_argument(
        "--login-file",
        metavar="FILE",
        type=Path,
        default=_login_file(environ),
        help="where the login is kept (default: %(default)s)",
    )
    genesys.add_argument(
        "--token-file", metavar="FILE", type=Path, help="an access token that somebody else keeps fresh, instead"
    )
    genesys.add_argument(
        "--redirect-uri",
        metavar="URI",
        default=DEFAULT_REDIRECT_URI,
        help="login: an authorized redirect URI of the OAuth client (default: %(default)s)",
    )
    genesys.add_argument("--api-url", metavar="URL", help="instead of the region's, for a gateway")
    genesys.add_argument("--login-url", metavar="URL", help="instead of the region's, for a gateway")
    _add_broker_arguments(parser.add_argument_group("broker"))
    parser.add_argument("--log-level", choices=[level.value for level in Level], default="info")


def main(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` read; returns an exit code of sysexits.h."""
    try:
        if args.action == "login":
            return _sign_in(args, sys.stdout)
        adapter = _adapter(args)
    except ValueError as error:
        return _complain(error, os.EX_USAGE)
    except LoginError as error:
        return _complain(error, os.EX_CONFIG if args.action == "run" else os.EX_NOPERM)
    except ExchangeError as error:
        return _complain(error, os.EX_UNAVAILABLE)
    return _run(adapter)


def _complain(error: Exception, status: int) -> int:
    sys.stderr.write(f"mutebridge controller genesys-cloud: {error}\n")
    return status


def _add_broker_arguments(broker: "argparse._ArgumentGroup") -> None:
    broker.description = "without the variables that `mutebridge pair --env` prints"
    broker.add_argument("--broker", metavar="URL", help=f"mqtt://host:port, mqtts:// with TLS (default: {_BROKER})")
    broker.add_argument("--station", help=f"the bridge's station (default: {host_station()})")
    broker.add_argument("--name", help=f"name of this controller (default: {_NAME})")
    broker.add_argument("--prefix", help=f"prefix of the topics (default: {DEFAULT_PREFIX})")
    broker.add_argument("--username")
    broker.add_argument("--password-file", metavar="FILE", help="holds the password, read at each connect")
    broker.add_argument("--ca-file", metavar="FILE", help="the authorities to trust (default: the system's)")
    broker.add_argument("--allow-plaintext", action="store_true", help="another machine without TLS")


def _login_file(environ: Mapping[str, str]) -> Path:
    """A service's state directory, else the user's."""
    if state := environ.get("STATE_DIRECTORY"):
        return Path(state.partition(":")[0]) / "genesys-cloud.json"
    home = environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(home) / "mutebridge" / "genesys-cloud.json"


def _sign_in(args: argparse.Namespace, out: TextIO) -> int:
    client = _oauth_client(args)
    if client is None:
        raise ValueError("--client-id is needed: the id of an OAuth client of your organization")
    try:
        login = sign_in(client, args.redirect_uri, out=out, typed=sys.stdin if sys.stdin.isatty() else None)
    except OSError as error:
        raise LoginError(f"cannot listen at {args.redirect_uri}: {error.strerror}") from None
    write_stored(args.login_file, login)
    lasts = "it is renewed by itself" if login.refresh_token else "without a refresh token; log in again when it ends"
    out.write(f"Logged in; kept in {args.login_file}, {lasts}.\n")
    return os.EX_OK


def _adapter(args: argparse.Namespace) -> Adapter:
    journal_log.start(Level(args.log_level))
    return Adapter(args.api_url or f"https://api.{_domain(args)}", _tokens(args), _paired(args))


def _run(adapter: Adapter) -> int:
    # Waited for, not handled: a handler would run in the middle of whatever this thread does.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    failures: list[BaseException] = []
    thread = threading.Thread(target=_follow, args=(adapter, failures), name="genesys-cloud")
    thread.start()
    signal.sigwait(_SIGNALS)
    adapter.stop()
    thread.join()
    if failures:
        raise failures[0]
    return os.EX_UNAVAILABLE if adapter.broker_failed else os.EX_OK


def _follow(adapter: Adapter, failures: list[BaseException]) -> None:
    try:
        adapter.run()
    except BaseException as failure:
        failures.append(failure)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # the main thread waits for it


def _domain(args: argparse.Namespace) -> str:
    if not args.region:
        raise ValueError("--region is needed: that of your organization, such as eu-central-1 or mypurecloud.de")
    return regions.domain(args.region)


def _oauth_client(args: argparse.Namespace) -> OAuthClient | None:
    if not args.client_id:
        return None
    secret = read_secret(args.client_secret_file) if args.client_secret_file else None
    return OAuthClient(args.login_url or f"https://login.{_domain(args)}", args.client_id, secret)


def _tokens(args: argparse.Namespace) -> Tokens:
    path: Path = args.token_file or args.login_file
    if args.token_file:
        return Tokens(lambda: read_supplied(path))
    if not path.exists():
        raise LoginError(f"nobody is logged in ({path} is not there): mutebridge controller genesys-cloud login")
    return Tokens(lambda: read_stored(path), client=_oauth_client(args), write=lambda login: write_stored(path, login))


def _paired(args: argparse.Namespace) -> Paired:
    """What the environment says of the broker, else the options."""
    options = ("broker", "station", "name", "prefix", "username", "password_file", "ca_file", "allow_plaintext")
    given = [option for option in options if getattr(args, option)]
    if "MUTEBRIDGE_BROKER" in os.environ and not given:
        return paired_from_environment()
    if "MUTEBRIDGE_BROKER" in os.environ:
        raise ValueError(
            f"--{given[0].replace('_', '-')} and $MUTEBRIDGE_BROKER: one of them can say where the broker is"
        )
    url = urlsplit(args.broker or _BROKER)
    if url.scheme not in ("mqtt", "mqtts") or not url.hostname or url.username or url.path.strip("/"):
        raise ValueError(f"--broker {args.broker!r}: mqtt://host:port or mqtts://host:port is expected")
    broker = BrokerSettings(
        host=url.hostname,
        port=url.port,
        username=args.username,
        password_file=args.password_file,
        tls=TlsSettings(ca_file=args.ca_file) if url.scheme == "mqtts" or args.ca_file else None,
        allow_plaintext=args.allow_plaintext,
    )
    return Paired(
        station=args.station or host_station(),
        name=args.name or _NAME,
        prefix=args.prefix or DEFAULT_PREFIX,
        broker=broker,
    )
