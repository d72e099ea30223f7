"""What the doctor looks at, as it was found: `machine` and `visit` gather it, `judgement` makes findings of it."""

import msgspec

from mutebridge.core.assignment import KeepMuteKey
from mutebridge.core.contract import Topics
from mutebridge.edges.broker import BrokerSettings
from mutebridge.edges.broker.rights import Visit


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Values that were found."""


class ConfigFacts(Facts, frozen=True, kw_only=True):
    """`file` is None without a file, `problems` what is wrong with it, `unreadable` that this user may not read it."""

    file: str | None = None
    problems: tuple[str, ...] = ()
    unreadable: bool = False


class User(Facts, frozen=True, kw_only=True):
    """Whom the daemon runs as."""

    name: str
    uid: int
    gids: frozenset[int] = frozenset()


class ServiceFacts(Facts, frozen=True, kw_only=True):
    """What systemd says of mutebridge.service. `systemd`: whether it answers at all; `installed`: whether it has it.

    `active` to `exit_status` are its ActiveState, SubState, Result, NRestarts, ExecMainCode and ExecMainStatus;
    `credentials` the files that it is given, by name.
    """

    systemd: bool = False
    installed: bool = False
    enabled: str = ""
    active: str = ""
    sub: str = ""
    result: str = ""
    restarts: int = 0
    exit_code: int = 0
    exit_status: int = 0
    main_pid: int = 0
    changed_on_disk: bool = False
    credentials: dict[str, str] = {}
    user: User | None = None


class FileFacts(Facts, frozen=True, kw_only=True):
    """A file that the configuration names; `key` says where.

    `permitted`: to the daemon's user, or to systemd where that reads it for the daemon, `handed_over`. `exposed`: it is
    a secret, and everybody may read it.
    """

    path: str
    key: str
    there: bool
    permitted: bool
    handed_over: bool = False
    exposed: bool = False


class EventNode(Facts, frozen=True, kw_only=True):
    """The desktop's face of a headset; `mutes`: whether the kernel makes KEY_MICMUTE there."""

    path: str
    mutes: bool
    permitted: bool


class DeviceFacts(Facts, frozen=True, kw_only=True):
    """A device that is wanted: `reason` says why it cannot be used, `permitted` is about the daemon's user.

    `others` are the programs that hold it beside the daemon. `ignored_by_modem_manager`: None for what it never probes.
    `from_phone_mute`: whether its mute button is the usage of which `auto` keeps the desktop.
    """

    id: str
    name: str | None = None
    port: str | None = None
    serial: bool = False
    usable: bool = False
    reason: str = ""
    there: bool = False
    permitted: bool = False
    held_by_daemon: bool = False
    others: tuple[str, ...] = ()
    ignored_by_modem_manager: bool | None = None
    event_nodes: tuple[EventNode, ...] = ()
    keeps_mute_key: KeepMuteKey = KeepMuteKey.AUTO
    from_phone_mute: bool = True


class BrailleFacts(Facts, frozen=True, kw_only=True):
    """A USB serial adapter that brltty may take for a braille display; `taken`: it has."""

    ids: str
    product: str
    taken: bool
    wanted: bool


class Library(Facts, frozen=True, kw_only=True):
    """A library of the daemon; `version` None: not there. `backend` is its C library's, `problem` why that fails."""

    name: str
    version: str | None
    backend: str = ""
    problem: str = ""


class MachineFacts(Facts, frozen=True, kw_only=True):
    """All of it. `root`: whether this program sees what is other users'. `daemons` run outside the service.

    `embedded_broker`: a daemon has brought its broker along.
    """

    root: bool
    user: User
    service: ServiceFacts = ServiceFacts()
    daemons: tuple[str, ...] = ()
    embedded_broker: bool = False
    files: tuple[FileFacts, ...] = ()
    devices: tuple[DeviceFacts, ...] | None = None
    unused: int = 0
    desktops: tuple[str, ...] = ()
    modem_manager: bool = False
    braille: tuple[BrailleFacts, ...] = ()
    udev: bool = False
    udev_rule: str | None = None
    clock_synchronised: bool | None = None
    tls: bool = False
    libraries: tuple[Library, ...] = ()

    @property
    def daemon_runs(self) -> bool:
        return self.service.main_pid > 0 or bool(self.daemons)


class BrokerFacts(Facts, frozen=True, kw_only=True):
    """A visit to the broker: `publish` and `subscribe` are what the bridge needs, topic or filter by what was tried.

    `proof_of_reading` is a topic of a controller on which something was published, `commands` the filter of all
    commands. `now_ms`: this machine's clock at the end, in milliseconds since the Unix epoch.
    """

    settings: BrokerSettings
    topics: Topics
    visit: Visit
    publish: dict[str, str]
    subscribe: tuple[str, ...]
    proof_of_reading: str
    commands: str
    now_ms: float
