"""The controllers that the embedded broker lets in, in a file that outlives it.

`mutebridge pair` writes it, the broker reads it anew when it has changed. It holds no password, only hashes, so that a
copy that goes astray opens nothing. It is readable by its owner only all the same.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mutebridge.core.access import Grant, controller_grants, controller_of
from mutebridge.core.contract import Topics
from mutebridge.edges.local_broker import replacing

FILE_NAME = "controllers.json"
SERVICE_FOLDER = Path("/var/lib/mutebridge")


class CredentialsError(Exception):
    """The file cannot be used; the message is for the person. `errno` as for OSError, None for wrong content."""

    def __init__(self, path: Path, why: str, number: int | None = None) -> None:
        super().__init__(f"{path}: {why}")
        self.errno = number


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One controller: its user, the hash of its password, the origins of the pages that may use it."""

    user: str
    password_hash: str
    prefix: str
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.grants()

    def grants(self) -> tuple[Grant, ...]:
        """What it may do; it may not be more than one controller of one station."""
        station, name = controller_of(self.user)
        return controller_grants(Topics(station, self.prefix), name)


class _Content(msgspec.Struct, kw_only=True):
    controllers: list[Credential] = []


class CredentialsFile:
    """The file, read again whenever it is another one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: object = self
        self._known: Mapping[str, Credential] = {}

    def all(self) -> Mapping[str, Credential]:
        """Return the controllers by their users; none where there is no file. CredentialsError when it is unusable."""
        try:
            status = self.path.stat()
            seen: object = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except FileNotFoundError:
            seen = None
        except OSError as error:
            raise self._error(error) from None
        if seen != self._seen:
            self._known = {credential.user: credential for credential in self._read()}
            self._seen = seen
        return self._known

    def put(self, credential: Credential) -> None:
        """Add a controller, or give it another password; the folder is made where it is missing."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from None
        self._change(lambda known: [*(one for one in known if one.user != credential.user), credential])

    def remove(self, user: str) -> bool:
        """Forget a controller; returns whether it was known."""
        if user not in self.all():
            return False
        self._change(lambda known: [one for one in known if one.user != user])
        return True

    def _read(self) -> list[Credential]:
        try:
            return _decoded(replacing.read(self.path) or "")
        except OSError as error:
            raise self._error(error) from None
        except (ValueError, RecursionError) as error:
            raise CredentialsError(self.path, f"is not what `mutebridge pair` writes: {error}") from None

    def _change(self, changed: Callable[[list[Credential]], list[Credential]]) -> None:
        def encoded(text: str) -> str:
            content = _Content(controllers=changed(_decoded(text)))
            return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"

        try:
            replacing.change(self.path, encoded)
        except OSError as error:
            raise self._error(error) from None
        except (ValueError, RecursionError) as error:
            raise CredentialsError(self.path, f"is not what `mutebridge pair` writes: {error}") from None

    def _error(self, error: OSError) -> CredentialsError:
        return CredentialsError(self.path, f"{error.strerror}", error.errno)


def default_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file of the service where it is installed, or for root; else one of the user's own."""
    if folder := environ.get("STATE_DIRECTORY"):
        return Path(folder.partition(":")[0], FILE_NAME)
    if os.geteuid() == 0 or SERVICE_FOLDER.exists():
        return SERVICE_FOLDER / FILE_NAME
    state = environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(state, "mutebridge", FILE_NAME)


def _decoded(text: str) -> list[Credential]:
    return msgspec.json.decode(text, type=_Content).controllers if text.strip() else []
