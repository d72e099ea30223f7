"""Which device node becomes which device.

The configuration comes first, in its order; what it leaves is tried against the profiles that can recognise their
board. A pure function of what is configured, known and plugged in: the same nodes give the same devices, with the same
ids, after every replug.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from mutebridge.core.button_protocol import SerialProtocol
from mutebridge.core.contract import valid_name
from mutebridge.core.events import Device, PressMode
from mutebridge.core.hook_switch import HookSwitch
from mutebridge.core.profiles import DeviceNode, Matches, Profile, check_serial_matches, convert, each_match


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One device of the configuration.

    Found by `port` (a path, or a glob over paths and links), by `match`, or as its `profile` recognises it. `serial`
    has the keys of a serial protocol: laid over the profile's, null removes one. Without a profile, the one that
    recognises the board is taken, unless `serial` says enough by itself. `hook_switch`: None takes the one for all.
    """

    id: str
    name: str | None = None
    press_mode: PressMode | None = None
    hook_switch: HookSwitch | None = None
    port: str | None = None
    match: Matches | None = None
    profile: str | None = None
    serial: Annotated[dict[str, Any], msgspec.Meta(extra={"part_of": SerialProtocol})] | None = None

    def __post_init__(self) -> None:
        if valid_name("device id", self.id) != self.id:
            raise ValueError(f"device id {self.id!r}: lower case is needed")
        if self.port is not None and self.match is not None:
            raise ValueError("'port' and 'match' are two ways to say which device it is: give one")
        if self.port is not None and not self.port.startswith("/"):
            raise ValueError(f"port {self.port!r}: a path that begins with / is needed, such as /dev/serial/by-id/...")
        check_serial_matches(self.match)

    @property
    def fixed_port(self) -> str | None:
        """The path to open whether or not it is a known node; None for a glob."""
        return self.port if self.port is not None and not re.search(r"[*?\[]", self.port) else None


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A device to be open: at `port`, speaking `protocol`."""

    device: Device
    port: str
    protocol: SerialProtocol
    profile_id: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one node, or of one configured device that is not there (`node` is None then).

    `device_id` is None for a node that is not used; `reason` says why, or what is wrong.
    """

    node: DeviceNode | None = None
    device_id: str | None = None
    profile_id: str | None = None
    port: str | None = None
    reason: str = ""


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
    serial_protocol(config, profile)
    if config.port is None and config.match is None and (profile is None or profile.match is None):
        raise ValueError(
            f"device {config.id}: nothing says which device it is: give 'port', 'match' or a profile that recognises it"
        )


def assign(  # noqa: PLR0913 (all that the plan depends on)
    configs: Sequence[DeviceConfig],
    profiles: Mapping[str, Profile],
    nodes: Sequence[DeviceNode],
    real_paths: Mapping[str, str],
    in_use: Mapping[str, str],
    *,
    known_devices: bool = True,
    press_mode: PressMode | None = None,
) -> tuple[list[Assignment], list[Verdict]]:
    """Return the devices to be open, and what became of each node and each configured device.

    `configs` have passed `check`. `real_paths` are the fixed ports with their links resolved, `in_use` the ports of
    the devices that are open: of two nodes that fit, an open one stays. `known_devices`: whether boards that a profile
    recognises are used without being configured. `press_mode`: that of every button that can do it and whose own
    configuration names none.
    """
    free = sorted(nodes, key=lambda node: _natural(node.path))
    found: list[tuple[Assignment | None, Verdict]] = []
    for config in configs:
        node = _node_for(config, profiles, free, real_paths, in_use)
        if node is not None:
            free.remove(node)
        found.append(_configured(config, profiles, node))
    taken = {config.id for config in configs}
    found += [_unconfigured(node, profiles, configs, taken, known_devices) for node in free]
    decided = {config.id for config in configs if config.press_mode is not None}
    made = [
        assignment if assignment.device.id in decided else _preferring(press_mode, assignment)
        for assignment, _ in found
        if assignment is not None
    ]
    return made, [verdict for _, verdict in found]


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
        return None, Verdict(device_id=config.id, port=config.port, reason="not plugged in")
    profile = profiles[config.profile] if config.profile is not None else None
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


def _unconfigured(
    node: DeviceNode,
    profiles: Mapping[str, Profile],
    configs: Sequence[DeviceConfig],
    taken: set[str],
    known_devices: bool,
) -> tuple[Assignment | None, Verdict]:
    profile = _recognise(node, profiles)
    if profile is None:
        return None, Verdict(node=node, port=node.path, reason=_unused(node, configs))
    verdict = Verdict(node=node, profile_id=profile.id, port=node.path)
    if not known_devices:
        reason = "not configured, and known devices are switched off"
        return None, msgspec.structs.replace(verdict, reason=reason)
    config = DeviceConfig(id=_own_id(profile, node, taken))
    taken.add(config.id)
    protocol = serial_protocol(config, profile)
    assignment = _assignment(config, profile, protocol, node.path, node)
    return assignment, msgspec.structs.replace(verdict, device_id=config.id)


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
    return next((node for node in fitting if in_use.get(config.id) == node.path), fitting[0] if fitting else None)


def _fits(
    config: DeviceConfig, profiles: Mapping[str, Profile], node: DeviceNode, real_paths: Mapping[str, str]
) -> bool:
    if config.fixed_port is not None:
        return node.path in (config.fixed_port, real_paths.get(config.fixed_port))
    if config.port is not None:
        return any(fnmatch.fnmatchcase(path, config.port) for path in (node.path, *node.links))
    if config.match is not None:
        return any(match.fits(node) for match in each_match(config.match))
    return config.profile is not None and profiles[config.profile].fits(node)


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
    for config in configs:
        if config.match is not None and any(match.fits(node) for match in each_match(config.match)):
            return f"fits device {config.id}, which is another one already"
    return "no profile recognises it; to use it, give a device its 'port' and a 'profile' or a 'serial' section"


def _own_id(profile: Profile, node: DeviceNode, taken: set[str]) -> str:
    """Return an id that stays the same over replugging: of the serial number, else of the socket, else of the node."""
    sockets = [link.rpartition("/")[2] for link in node.links if "/by-path/" in link]
    which = node.serial_number or (sockets[0] if sockets else node.path.rpartition("/")[2])
    wanted = _slug(f"{profile.id}-{which}")
    return wanted if wanted not in taken else _slug(f"{profile.id}-{node.path.rpartition('/')[2]}")


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
