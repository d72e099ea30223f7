"""Which device node becomes which device.

The configuration comes first, in its order; what it leaves is used if it is known: a serial board by a profile that can
recognise it, a HID device by what its report descriptor says. A pure function of what is configured, known and plugged
in: the same nodes give the same devices, with the same ids, after every replug.
"""

import enum
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from mutebridge.core.button_protocol import SerialProtocol
from mutebridge.core.contract import valid_name
from mutebridge.core.events import Device, PressMode
from mutebridge.core.headset_profile import HeadsetProfile
from mutebridge.core.headset_protocol import HeadsetProtocol, headset_protocol
from mutebridge.core.hook_switch import HookSwitch
from mutebridge.core.profiles import (
    DeviceNode,
    Match,
    Matches,
    Profile,
    check_serial_matches,
    convert,
    each_match,
    resolve_headset,
)

HIDRAW = "hidraw"
Protocol = SerialProtocol | HeadsetProtocol


class KeepMuteKey(enum.Enum):
    """Whether the desktop is kept from the mute key of a device while a call is connected.

    `AUTO`: where the kernel makes KEY_MICMUTE of the device's Phone Mute. `ON`: also where of another usage.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One device of the configuration.

    Found by `port` (a path, or a glob over paths and links), by `match`, or as its `profile` recognises it. `serial`
    has the keys of a serial protocol: laid over the profile's, null removes one. Without a profile, the one that
    recognises the board is taken, unless `serial` says enough by itself. `headset` has the keys of a headset profile,
    laid over all profiles that fit. `hook_switch`, `keep_mute_key_from_desktop`: None takes the one for all.
    """

    id: str
    name: str | None = None
    press_mode: PressMode | None = None
    hook_switch: HookSwitch | None = None
    port: str | None = None
    match: Matches | None = None
    profile: str | None = None
    serial: Annotated[dict[str, Any], msgspec.Meta(extra={"part_of": SerialProtocol})] | None = None
    headset: Annotated[dict[str, Any], msgspec.Meta(extra={"part_of": HeadsetProfile})] | None = None
    keep_mute_key_from_desktop: KeepMuteKey | None = None

    def __post_init__(self) -> None:
        if valid_name("device id", self.id) != self.id:
            raise ValueError(f"device id {self.id!r}: lower case is needed")
        if self.port is not None and self.match is not None:
            raise ValueError("'port' and 'match' are two ways to say which device it is: give one")
        if self.port is not None and (not self.port.startswith("/") or "\0" in self.port):
            raise ValueError(f"port {self.port!r}: a path that begins with / is needed, such as /dev/serial/by-id/...")
        if self.serial is not None and self.headset is not None:
            raise ValueError("'serial' and 'headset' are two kinds of device: give one")
        if self.serial is not None:
            check_serial_matches(self.match)

    @property
    def fixed_port(self) -> str | None:
        """The path to open whether or not it is a known node; None for a glob."""
        return self.port if self.port is not None and not re.search(r"[*?\[]", self.port) else None


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A device to be open: at `port`, speaking `protocol`. `keep_mute_key`: None takes what is said for all."""

    device: Device
    port: str
    protocol: Protocol
    profile_id: str | None = None
    keep_mute_key: KeepMuteKey | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one node, or of one configured device that is not there (`node` is None then).

    `device_id` is None for a node that is not used; `reason` says why, or what is wrong. `why` says what was found, or
    not, in a HID device.
    """

    node: DeviceNode | None = None
    device_id: str | None = None
    profile_id: str | None = None
    port: str | None = None
    reason: str = ""
    why: dict[str, str] = {}


def serial_protocol(config: DeviceConfig, profile: Profile | None) -> SerialProtocol:
    """Return how the configured device speaks; ValueError says what is wrong in its `serial` section."""
    base = msgspec.to_builtins(profile.serial) if profile is not None and profile.serial is not None else {}
    where = f"device {config.id}: serial"
    protocol = convert(_overlaid(base, config.serial or {}), SerialProtocol, where)
    mode = config.press_mode or (profile.press_mode if profile is not None else None)
    if mode is not None and protocol.does_something:
        try:
            protocol.check_press_mode(mode)
        except ValueError as error:
            raise ValueError(f"device {config.id}: {error}") from None
    return protocol


def check(config: DeviceConfig, profiles: Mapping[str, Profile]) -> None:
    """ValueError when the configured device can never work, whatever is plugged in."""
    profile = profiles.get(config.profile) if config.profile is not None else None
    if config.profile is not None and profile is None:
        raise ValueError(f"device {config.id}: profile {config.profile!r} is unknown; there are {', '.join(profiles)}")
    if _kind(config, profile) == HIDRAW:
        _check_headset(config, profile)
    else:
        serial_protocol(config, profile)
    if profile is not None and profile.serial is not None:
        _check_match(config)
    if config.port is None and config.match is None and (profile is None or profile.match is None):
        raise ValueError(
            f"device {config.id}: nothing says which device it is: give 'port', 'match' or a profile that recognises it"
        )


def _check_match(config: DeviceConfig) -> None:
    try:
        check_serial_matches(config.match)
    except ValueError as error:
        raise ValueError(f"device {config.id}: {error}") from None


def _check_headset(config: DeviceConfig, profile: Profile | None) -> None:
    if config.serial is not None:
        raise ValueError(f"device {config.id}: serial: the profile {config.profile!r} is a headset's")
    try:
        resolve_headset([profile] if profile is not None else [], config.headset)
    except ValueError as error:
        raise ValueError(f"device {config.id}: {error}") from None


def _kind(config: DeviceConfig, profile: Profile | None) -> str | None:
    """Return the subsystem of the nodes that the device may be; None: what it is matched with tells."""
    if config.headset is not None or (profile is not None and profile.headset is not None):
        return HIDRAW
    if config.serial is not None or profile is not None:
        return "tty"
    return None


def assign(  # noqa: PLR0913 (all that the plan depends on)
    configs: Sequence[DeviceConfig],
    profiles: Mapping[str, Profile],
    nodes: Sequence[DeviceNode],
    real_paths: Mapping[str, str],
    in_use: Mapping[str, str],
    *,
    known_devices: bool = True,
    press_mode: PressMode | None = None,
    hook_switch: HookSwitch = HookSwitch.IGNORE,
) -> tuple[list[Assignment], list[Verdict]]:
    """Return the devices to be open, and what became of each node and each configured device.

    `configs` have passed `check`. `real_paths` are the fixed ports with their links resolved, `in_use` the ports of
    the devices that are open: of two nodes that fit, an open one stays. `known_devices`: whether boards that a profile
    recognises are used without being configured. `press_mode`: that of every button that can do it and whose own
    configuration names none; `hook_switch`: that of every device whose own configuration does not say.
    """
    free = sorted(nodes, key=lambda node: _natural(node.path))
    found: list[tuple[Assignment | None, Verdict]] = []
    for config in configs:
        node = _node_for(config, profiles, free, real_paths, in_use)
        if node is not None:
            free.remove(node)
        found.append(_configured(config, profiles, node))
    taken = {config.id for config in configs}
    known = _Known(profiles, configs, taken, in_use, known_devices)
    found += [known.headset(node) if node.subsystem == HIDRAW else known.board(node) for node in free]
    own = {config.id: config for config in configs}
    made = [
        _by_what_is_said_for_all(assignment, own.get(assignment.device.id), press_mode, hook_switch)
        for assignment, _ in found
        if assignment is not None
    ]
    return made, [verdict for _, verdict in found]


def _by_what_is_said_for_all(
    assignment: Assignment, own: DeviceConfig | None, mode: PressMode | None, hook_switch: HookSwitch
) -> Assignment:
    hook_switch = (own.hook_switch if own is not None else None) or hook_switch
    device = msgspec.structs.replace(assignment.device, hook_switch=hook_switch is HookSwitch.FORWARD)
    assignment = msgspec.structs.replace(assignment, device=device)
    return assignment if own is not None and own.press_mode is not None else _preferring(mode, assignment)


def _preferring(mode: PressMode | None, assignment: Assignment) -> Assignment:
    if mode is None:
        return assignment
    try:
        assignment.protocol.check_press_mode(mode)
    except ValueError:
        return assignment
    return msgspec.structs.replace(assignment, device=msgspec.structs.replace(assignment.device, press_mode=mode))


def _configured(
    config: DeviceConfig, profiles: Mapping[str, Profile], node: DeviceNode | None
) -> tuple[Assignment | None, Verdict]:
    port = config.fixed_port or (node.path if node is not None else None)
    if port is None:
        return None, Verdict(device_id=config.id, port=config.port, reason=_absent(config))
    profile = profiles[config.profile] if config.profile is not None else None
    if node is not None and node.subsystem == HIDRAW:
        return _configured_headset(config, profiles, node, port)
    if _kind(config, profile) == HIDRAW:
        return None, Verdict(device_id=config.id, port=port, reason=f"there is no HID device at {port}")
    if profile is None and not serial_protocol(config, None).does_something and node is not None:
        profile = _recognise(node, profiles)
    verdict = Verdict(node=node, device_id=config.id, profile_id=profile.id if profile is not None else None, port=port)
    try:
        protocol = serial_protocol(config, profile)
    except ValueError as error:
        return None, msgspec.structs.replace(verdict, reason=str(error))
    if not protocol.does_something:
        reason = "no profile recognises it: name a 'profile' or give a 'serial' section"
        return None, msgspec.structs.replace(verdict, reason=reason)
    return _assignment(config, profile, protocol, port, node), verdict


def _configured_headset(
    config: DeviceConfig, profiles: Mapping[str, Profile], node: DeviceNode, port: str
) -> tuple[Assignment | None, Verdict]:
    verdict = Verdict(node=node, device_id=config.id, port=port)
    try:
        protocol = _headset_protocol(config, profiles, node)
        if config.press_mode is not None:
            protocol.check_press_mode(config.press_mode)
    except ValueError as error:
        return None, msgspec.structs.replace(verdict, reason=str(error))
    verdict = _explained(verdict, protocol)
    if not protocol.does_something:
        return None, msgspec.structs.replace(verdict, reason=protocol.why["mute_button"])
    return _headset_assignment(config, profiles, protocol, port, node), verdict


def _headset_protocol(config: DeviceConfig, profiles: Mapping[str, Profile], node: DeviceNode) -> HeadsetProtocol:
    named = profiles[config.profile] if config.profile is not None else None
    return headset_protocol(node, profiles.values(), named, config.headset)


def _explained(verdict: Verdict, protocol: HeadsetProtocol) -> Verdict:
    return msgspec.structs.replace(verdict, profile_id=", ".join(protocol.layers) or None, why=protocol.why)


def _headset_assignment(
    config: DeviceConfig, profiles: Mapping[str, Profile], protocol: HeadsetProtocol, port: str, node: DeviceNode
) -> Assignment:
    by_profile = [profiles[layer].press_mode for layer in reversed(protocol.layers)]
    modes = [config.press_mode, *by_profile, protocol.natural_press_mode]
    device = Device(
        id=config.id,
        name=config.name or node.product or node.label,
        kind="hid",
        press_mode=next(mode for mode in modes if mode is not None),
        can=protocol.can,
    )
    profile_id = ", ".join(protocol.layers) or None
    return Assignment(
        device=device,
        port=port,
        protocol=protocol,
        profile_id=profile_id,
        keep_mute_key=config.keep_mute_key_from_desktop,
    )


class _Known(msgspec.Struct):
    """Decides on what is not configured; `taken` are the ids that are given away."""

    profiles: Mapping[str, Profile]
    configs: Sequence[DeviceConfig]
    taken: set[str]
    in_use: Mapping[str, str]
    wanted: bool

    def board(self, node: DeviceNode) -> tuple[Assignment | None, Verdict]:
        profile = _recognise(node, self.profiles)
        if profile is None:
            return None, Verdict(node=node, port=node.path, reason=_unused(node, self.configs))
        verdict = Verdict(node=node, profile_id=profile.id, port=node.path)
        if not self.wanted:
            return None, msgspec.structs.replace(verdict, reason=_SWITCHED_OFF)
        config = DeviceConfig(id=_own_id(profile, node, self.taken))
        self.taken.add(config.id)
        protocol = serial_protocol(config, profile)
        assignment = _assignment(config, profile, protocol, node.path, node)
        return assignment, msgspec.structs.replace(verdict, device_id=config.id)

    def headset(self, node: DeviceNode) -> tuple[Assignment | None, Verdict]:
        verdict = Verdict(node=node, port=node.path)
        try:
            protocol = headset_protocol(node, self.profiles.values())
        except ValueError as error:
            return None, msgspec.structs.replace(verdict, reason=str(error))
        verdict = _explained(verdict, protocol)
        if not protocol.does_something:
            return None, msgspec.structs.replace(verdict, reason=protocol.why["mute_button"])
        if not self.wanted or (fits := _fits_another(node, self.configs)):
            return None, msgspec.structs.replace(verdict, reason=fits if self.wanted else _SWITCHED_OFF)
        config = DeviceConfig(id=_headset_id(node, self.taken, self.in_use))
        self.taken.add(config.id)
        verdict = msgspec.structs.replace(verdict, device_id=config.id)
        return _headset_assignment(config, self.profiles, protocol, node.path, node), verdict


_SWITCHED_OFF = "not configured, and known devices are switched off"


def _recognise(node: DeviceNode, profiles: Mapping[str, Profile]) -> Profile | None:
    return next((profile for profile in profiles.values() if profile.fits(node)), None)


def _node_for(
    config: DeviceConfig,
    profiles: Mapping[str, Profile],
    free: Iterable[DeviceNode],
    real_paths: Mapping[str, str],
    in_use: Mapping[str, str],
) -> DeviceNode | None:
    fitting = [node for node in free if _fits(config, profiles, node, real_paths)]
    return min(
        fitting,
        key=lambda node: (in_use.get(config.id) != node.path, not _does_something(config, profiles, node)),
        default=None,
    )


def _absent(config: DeviceConfig) -> str:
    ids_alone = config.match is not None and not any(m.tells_more_than_ids for m in each_match(config.match))
    return "not plugged in" + ("; ids alone recognise a HID device, but no serial button" if ids_alone else "")


def _does_something(config: DeviceConfig, profiles: Mapping[str, Profile], node: DeviceNode) -> bool:
    """Whether a node may be the one that is meant: one headset has several, with one for its volume keys."""
    if node.subsystem != HIDRAW:
        return True
    try:
        return _headset_protocol(config, profiles, node).does_something
    except ValueError:
        return False


def _fits(
    config: DeviceConfig, profiles: Mapping[str, Profile], node: DeviceNode, real_paths: Mapping[str, str]
) -> bool:
    profile = profiles[config.profile] if config.profile is not None else None
    if _kind(config, profile) not in (None, node.subsystem):
        return False
    if config.fixed_port is not None:
        return node.path in (config.fixed_port, real_paths.get(config.fixed_port))
    if config.port is not None:
        return any(fnmatch.fnmatchcase(path, config.port) for path in (node.path, *node.links))
    if config.match is not None:
        return any(_may_select(match, node) and match.fits(node) for match in each_match(config.match))
    return profile is not None and profile.fits(node)


def _may_select(match: Match, node: DeviceNode) -> bool:
    """Whether it says more of a serial board than which USB-serial chip it has."""
    return node.subsystem == HIDRAW or match.tells_more_than_ids


def _assignment(
    config: DeviceConfig, profile: Profile | None, protocol: SerialProtocol, port: str, node: DeviceNode | None
) -> Assignment:
    mode = config.press_mode or (profile.press_mode if profile is not None else None) or protocol.natural_press_mode
    name = config.name or (profile.name if profile is not None else None) or (node.label if node is not None else port)
    device = Device(id=config.id, name=name, kind="serial", press_mode=mode, can=protocol.can)
    return Assignment(
        device=device, port=port, protocol=protocol, profile_id=profile.id if profile is not None else None
    )


def _unused(node: DeviceNode, configs: Sequence[DeviceConfig]) -> str:
    return _fits_another(node, configs) or (
        "no profile recognises it; to use it, give a device its 'port' and a 'profile' or a 'serial' section"
    )


def _fits_another(node: DeviceNode, configs: Sequence[DeviceConfig]) -> str:
    for config in configs:
        kind = _kind(config, None)
        if kind in (None, node.subsystem) and any(match.fits(node) for match in each_match(config.match)):
            return f"fits device {config.id}, which is another one already"
    return ""


def _own_id(profile: Profile, node: DeviceNode, taken: set[str]) -> str:
    """Return an id that stays the same over replugging: of the serial number, else of the socket, else of the node."""
    sockets = [link.rpartition("/")[2] for link in node.links if "/by-path/" in link]
    which = node.serial_number or (sockets[0] if sockets else node.path.rpartition("/")[2])
    wanted = _slug(f"{profile.id}-{which}")
    return wanted if wanted not in taken else _slug(f"{profile.id}-{node.path.rpartition('/')[2]}")


def _headset_id(node: DeviceNode, taken: set[str], in_use: Mapping[str, str]) -> str:
    """The same for headsets; one that is open keeps the id it has, whatever else is plugged in."""
    numbers = (node.serial_number, node.physical_path, node.path.rpartition("/")[2])
    ids = [_slug(f"{node.product or 'headset'}-{which}") for which in numbers if which]
    free = [wanted for wanted in ids if wanted not in taken]
    mine = next((wanted for wanted in free if in_use.get(wanted) == node.path), None)
    others = {wanted for wanted in free if in_use.get(wanted, node.path) != node.path}
    return mine or next((wanted for wanted in free if wanted not in others), ids[-1])


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-")
    return slug if len(slug) <= 64 else f"{slug[:31]}--{slug[-31:]}"


def _natural(path: str) -> tuple[str, int]:
    found = re.search(r"\d+$", path)
    return (path, 0) if found is None else (path[: found.start()], int(found[0]))


def _overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both_mappings = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and "hex" not in value
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _overlaid(merged[key], value) if both_mappings else value
    return merged
