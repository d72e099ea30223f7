"""Which device nodes the service is given the right to open.

Never more than those that the daemon would open. Of these, a serial port needs the configuration or a profile to name
it, which is what makes the daemon open it. A HID device needs one of these:

* The configuration names it.
* Its report descriptor has Phone Mute or Hook Switch, or a profile names its model; and nothing that is typed or
  pointed can be read from its node, since that is a keyboard's or a mouse's, whatever else its descriptor claims.
"""

from collections.abc import Mapping, Sequence

from mutebridge.core import usages
from mutebridge.core.assignment import Assignment, DeviceConfig, assign
from mutebridge.core.headset_protocol import HeadsetProtocol
from mutebridge.core.profiles import DeviceNode, Profile
from mutebridge.core.report_descriptor import Direction, parse


def is_given(
    node: DeviceNode,
    configs: Sequence[DeviceConfig],
    profiles: Mapping[str, Profile],
    real_paths: Mapping[str, str],
    *,
    known_devices: bool = True,
) -> bool:
    """Whether the service may open this node, whatever else is plugged in; arguments as for `assign`."""
    made, _ = assign(configs, profiles, [node], real_paths, {}, known_devices=known_devices)
    configured = {config.id for config in configs}
    return any(
        assignment.device.id in configured or _is_recognised(assignment)
        for assignment in made
        if real_paths.get(assignment.port, assignment.port) == node.path
    )


def _is_recognised(assignment: Assignment) -> bool:
    protocol = assignment.protocol
    if not isinstance(protocol, HeadsetProtocol):
        return True
    telephony = protocol.telephony
    mute = telephony.mute_button
    has_button = telephony.hook_switch is not None or (mute is not None and mute.usage == usages.PHONE_MUTE)
    return (has_button or bool(protocol.layers)) and not _types_or_points(protocol.descriptor)


def _types_or_points(descriptor: bytes) -> bool:
    """Whether a key of a keyboard, or an X axis, is among what the device sends."""
    return any(
        usages.KEYBOARD_PAGE in (sent.page, sent.page_at_usage)
        or (usages.GENERIC_DESKTOP_PAGE in (sent.page, sent.page_at_usage) and sent.first <= usages.X[1] <= sent.last)
        for field in parse(descriptor).fields
        if field.direction is Direction.INPUT
        for sent in (*field.usages, *(usage for _, usage in field.alternatives))
    )
