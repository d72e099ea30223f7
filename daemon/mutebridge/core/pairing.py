"""What a session controller is told so that it finds its bridge: broker, station, name, user with password.

It has three forms. A link hands it to a web page in the fragment, which a browser sends to no server. JSON is for
managed deployment, environment variables are for programs.
"""

import base64
import shlex
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from mutebridge.core.contract import DEFAULT_PREFIX, Topics, valid_name

VERSION = 1
FRAGMENT_KEY = "mutebridge"
WEB_SCHEMES = ("ws", "wss")
PROGRAM_SCHEMES = ("mqtt", "mqtts")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_VARIABLES = {
    "broker": "MUTEBRIDGE_BROKER",
    "station": "MUTEBRIDGE_STATION",
    "name": "MUTEBRIDGE_NAME",
    "username": "MUTEBRIDGE_USERNAME",
    "password": "MUTEBRIDGE_PASSWORD",
    "prefix": "MUTEBRIDGE_PREFIX",
}


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """One controller's way to its bridge. ValueError for names and addresses that cannot be.

    `broker` is a URL: ws(s)://host:port for a page, mqtt(s)://host:port for a program. Without TLS only on loopback.
    """

    broker: str
    station: str
    name: str
    username: str
    password: str
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        valid_name("name", self.name)
        Topics(self.station, self.prefix)
        check_broker(self.broker)

    def __repr__(self) -> str:
        """Without the password, which belongs in no log."""
        return f"<pairing of {self.username} at {self.broker}>"

    def json(self) -> str:
        """Return it as one JSON object; `v` is the version of this form."""
        return msgspec.json.encode(self._fields()).decode()

    def link(self, page: str) -> str:
        """Return the address of a page with this in its fragment."""
        check_page(page)
        encoded = base64.urlsafe_b64encode(self.json().encode()).decode().rstrip("=")
        return f"{page}#{FRAGMENT_KEY}={encoded}"

    def environment(self) -> str:
        """Return lines of NAME=value that a shell reads, as does systemd's EnvironmentFile."""
        fields = {key: value for key, value in self._fields().items() if key != "v"}
        return "".join(f"{_VARIABLES[key]}={shlex.quote(value)}\n" for key, value in fields.items())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read what `environment` wrote; ValueError names a variable that is missing or cannot be."""
        given = {field: environ[variable] for field, variable in _VARIABLES.items() if environ.get(variable)}
        missing = [variable for field, variable in _VARIABLES.items() if field not in given and field != "prefix"]
        if missing:
            raise ValueError(f"{', '.join(missing)}: not set; `mutebridge pair --env` prints all that there is to set")
        try:
            return cls(**given)
        except ValueError as error:
            raise ValueError(f"MUTEBRIDGE_...: {error}") from None

    def _fields(self) -> dict[str, Any]:
        fields = {"v": VERSION, **msgspec.structs.asdict(self)}
        if self.prefix == DEFAULT_PREFIX:
            del fields["prefix"]
        return fields


def check_page(page: str) -> None:
    """Raise ValueError when a page's address has no room for a pairing."""
    if "#" in page:
        raise ValueError(f"{page!r} has a fragment (#) already, which is where the pairing goes")


def check_broker(url: str, schemes: tuple[str, ...] = WEB_SCHEMES + PROGRAM_SCHEMES) -> None:
    """Raise ValueError unless it is the address of a broker to which a password may be told."""
    parts = urlsplit(url)
    try:
        well_formed = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # a port above 65535
        well_formed = False
    if not well_formed or parts.username is not None or parts.query or parts.fragment or not url.isprintable():
        raise ValueError(f"broker {url!r}: {' or '.join(schemes)}, then ://host:port")
    if parts.scheme in ("ws", "mqtt") and parts.hostname not in _LOOPBACK:
        raise ValueError(
            f"broker {url!r}: another machine, without TLS: everyone on the way could read the password and press the"
            f" button. Use {parts.scheme}s://"
        )
