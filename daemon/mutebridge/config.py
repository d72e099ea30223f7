"""The configuration: its keys, the search for its file, the device profiles that are shipped.

`load` reads the file to a `Config`, every key of which `config/mutebridge.yaml` explains. Without a file it is the
defaults: the broker on this machine, every device that a profile recognises. What is wrong is a `ConfigError`, all of
it at once, each with its place; what the structs of other modules think of their part is placed too.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mutebridge import typed_yaml
from mutebridge.core import assignment
from mutebridge.core.assignment import DeviceConfig, KeepMuteKey
from mutebridge.core.contract import DEFAULT_PREFIX, Topics, valid_name
from mutebridge.core.events import Level, PressMode
from mutebridge.core.hook_switch import HookSwitch
from mutebridge.core.profiles import Profile, profiles_from_dict
from mutebridge.edges.broker import BrokerSettings
from mutebridge.edges.local_broker.settings import EmbeddedBrokerSettings
from mutebridge.typed_yaml import ConfigError, Problem, Reading

__all__ = ["Config", "ConfigError", "ConfigFileError", "Problem", "load", "load_profiles"]

DEFAULT_FILE = Path("/etc/mutebridge/mutebridge.yaml")
FILE_VARIABLE = "MUTEBRIDGE_CONFIG"
_PROFILES = Path(__file__).with_name("devices")

# How a secret is shown; so it cannot be one.
MASK = "***"
_SECRET = "password"  # noqa: S105 (the name of the key)


def host_station() -> str:
    """The station of a machine whose configuration names none: its host name, up to the first dot."""
    return os.uname().nodename.partition(".")[0]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a configuration file says. `press_mode`: None leaves it to the device."""

    station: str = msgspec.field(default_factory=host_station)
    prefix: str = DEFAULT_PREFIX
    log_level: Level = Level.INFO
    press_mode: PressMode | None = None
    hook_switch: HookSwitch = HookSwitch.IGNORE
    known_devices: bool = True
    keep_mute_key_from_desktop: KeepMuteKey = KeepMuteKey.AUTO
    broker: BrokerSettings = BrokerSettings()
    embedded_broker: EmbeddedBrokerSettings = EmbeddedBrokerSettings()
    devices: tuple[DeviceConfig, ...] = ()

    def __post_init__(self) -> None:
        try:
            lowered = valid_name("station", self.station)
        except ValueError as error:
            whose = "the host name is taken by default, but " if self.station == host_station() else ""
            raise ValueError(f"station: {whose}{error}") from None
        msgspec.structs.force_setattr(self, "station", lowered)
        Topics(lowered, self.prefix)


class ConfigFileError(ConfigError):
    """The file cannot be read at all; `errno` says why, as for OSError."""

    def __init__(self, path: Path, number: int, message: str) -> None:
        super().__init__(Problem(file=str(path), message=message))
        self.errno = number


def find_file(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return `path`, else what $MUTEBRIDGE_CONFIG names, else the default file if there is one."""
    if path is not None:
        return path
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    try:
        DEFAULT_FILE.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it is there, as far as one may know: reading it says what is wrong
        pass
    return DEFAULT_FILE


def load(path: Path | None = None) -> Config:
    """Read the configuration file that `find_file` finds; ConfigError says all that is wrong with it."""
    file = find_file(path)
    if file is None:
        return _defaults()
    reading = Reading(str(file), _read(file))
    config = reading.read(Config)
    if problems := [reading.problem_at(place, message) for place, message in _judge(config)]:
        raise ConfigError(*problems)
    return config


@lru_cache(maxsize=1)
def load_profiles() -> tuple[Profile, ...]:
    """Return the shipped device profiles, in the order of their files' names."""
    found: list[Profile] = []
    with os.scandir(_PROFILES) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".yaml"))
    for name in names:
        found += _profiles_of(name, (_PROFILES / name).read_bytes())
    return tuple(found)


def effective_yaml(config: Config) -> str:
    """Return the whole configuration as YAML; `load` makes the same of it, passwords apart, which are masked."""
    return typed_yaml.dump(_masked(msgspec.to_builtins(config)))


def effective_json(config: Config) -> str:
    """Return the same as JSON, one line."""
    return msgspec.json.encode(_masked(msgspec.to_builtins(config))).decode() + "\n"


def problems_json(error: ConfigError) -> str:
    """Return `{"problems": [{"file", "line", "column", "key", "message"}, ...]}`, one line."""
    return msgspec.json.encode({"problems": error.problems}).decode() + "\n"


def _defaults() -> Config:
    try:
        return Config()
    except ValueError as error:
        message = f"{error}: write a configuration file with 'station: ...'"
        raise ConfigError(Problem(file=str(DEFAULT_FILE), message=message)) from None


def _read(path: Path) -> bytes:
    try:
        # Without O_NONBLOCK a FIFO would hold the daemon up until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        raise ConfigFileError(path, number, f"cannot be read: {os.strerror(number)}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigFileError(path, errno.EINVAL, "is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(typed_yaml.MAX_BYTES + 1)
    except OSError as error:
        raise ConfigFileError(path, error.errno or errno.EIO, f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


_Place = tuple[str | int, ...]


def _judge(config: Config) -> Iterator[tuple[_Place, str]]:
    """What the types cannot say: the place and the message of each problem."""
    if getattr(config.broker, _SECRET, None) == MASK:
        yield ("broker", _SECRET), f"{MASK} only stands for a password: put the password here, or use password_file"
    profiles = {profile.id: profile for profile in load_profiles()} if config.devices else {}
    first: dict[str, int] = {}
    for index, device in enumerate(config.devices):
        if first.setdefault(device.id, index) != index:
            yield ("devices", index, "id"), f"{device.id!r} is the id of devices[{first[device.id]}] already"
        try:
            assignment.check(device, profiles)
        except ValueError as error:
            yield ("devices", index, *_key_in(str(error))), str(error)


def _key_in(message: str) -> _Place:
    """Return the key with which a message about a device begins, if it does."""
    found = re.match(r"device [^:]*: (\w+)", message)
    return (found[1],) if found and found[1] in DeviceConfig.__struct_fields__ else ()


def _profiles_of(name: str, data: bytes) -> tuple[Profile, ...]:
    raw: Mapping[str, Any] = Reading(name, data).read(_ProfileFile)
    try:
        return profiles_from_dict(raw, name)
    except ValueError as error:
        raise ConfigError(Problem(file=name, message=str(error).removeprefix(f"{name}: "))) from None


# Each profile of a file without its `id`, which is its key.
_ProfileFile: Any = dict[str, Annotated[dict[str, Any], msgspec.Meta(extra={"part_of": Profile})]]


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: MASK if k == _SECRET and v is not None else _masked(v) for k, v in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list | tuple) else value
