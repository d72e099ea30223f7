"""Keeps every wanted device that is plugged in open.

Between the app, which knows the configuration, and the edges, which know one device or one bus each. Whatever changes,
the configuration or what is plugged in, is answered the same way: look at what is there, work out anew which device
belongs where (`core.assignment`), open what is missing, close what is no longer wanted, leave the rest alone.

Nothing here waits for a device: a device that hangs while closing delays only the one that wants its port or its name.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence

import msgspec

from mutebridge.core.assignment import HIDRAW, Assignment, DeviceConfig, KeepMuteKey, Verdict, assign, check
from mutebridge.core.events import DeviceAttached, DeviceDetached, Event, PressMode
from mutebridge.core.headset_protocol import HeadsetProtocol
from mutebridge.core.hook_switch import HookSwitch
from mutebridge.core.lights import DARK, Lights
from mutebridge.core.profiles import Profile
from mutebridge.edges import headset, serial_button
from mutebridge.edges.desktop_key import DesktopKey
from mutebridge.edges.headset import Headset
from mutebridge.edges.hotplug import Hotplug, list_nodes
from mutebridge.edges.serial_button import SerialButton
from mutebridge.real_path import real_path

SUBSYSTEMS = ("tty", HIDRAW)
# How long a device that is taken out of the configuration may take to show its last, dark lights.
CLOSE_S = 2.0


Button = SerialButton | Headset


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What `mutebridge devices` says about one device node, or about a configured device that is not there.

    `state`: `open`, `opening`, `closed` (it would be opened), `unused`, `absent` or `trouble`; `problem` says why and
    what to do. `why` says of each item that a HID device may have how it was found, or why it is not offered.
    """

    port: str | None
    state: str
    device_id: str | None = None
    name: str | None = None
    kind: str | None = None
    press_mode: str | None = None
    can: tuple[str, ...] = ()
    profile: str | None = None
    problem: str = ""
    why: dict[str, str] = {}
    links: tuple[str, ...] = ()
    manufacturer: str | None = None
    product: str | None = None
    serial_number: str | None = None
    vendor_id: str | None = None
    product_id: str | None = None


class Attachments:
    """The devices of one workstation.

    `feed` takes every event of every device, from their threads, and must not block. `now` is a monotonic clock in
    seconds. `profiles` are tried in their order. Every method may be called from any thread; none waits for a device
    but `stop`.
    """

    def __init__(
        self, feed: Callable[[Event], None], now: Callable[[], float], profiles: Iterable[Profile] = ()
    ) -> None:
        self._feed = feed
        self._now = now
        self._profiles = {profile.id: profile for profile in profiles}
        self._configs: tuple[DeviceConfig, ...] = ()
        self._known_devices = True
        self._press_mode: PressMode | None = None
        self._hook_switch = HookSwitch.IGNORE
        self._keep_mute_key = KeepMuteKey.AUTO
        self._kept_keys: dict[str, KeepMuteKey] = {}  # how each headset was made
        self._running = False
        self._lock = threading.RLock()
        self._watch_lock = threading.Lock()
        # Replaced as a whole, never changed: `show` looks into it without a lock.
        self._open: dict[str, Button] = {}
        self._closing: list[Button] = []
        self._hotplug = Hotplug(self._look, SUBSYSTEMS)

    def configure(
        self,
        devices: Sequence[DeviceConfig],
        *,
        known_devices: bool = True,
        press_mode: PressMode | None = None,
        hook_switch: HookSwitch = HookSwitch.IGNORE,
        keep_mute_key: KeepMuteKey = KeepMuteKey.AUTO,
    ) -> None:
        """Want these devices from now on; ValueError, and no change, when one can never work.

        `known_devices`: whether devices that are recognised are used without being configured. `press_mode`: that of
        every button that can do it and whose own configuration names none; `hook_switch`, `keep_mute_key`: what counts
        for every headset whose own configuration says nothing else.
        """
        ids = [device.id for device in devices]
        for device in devices:
            if ids.count(device.id) > 1:
                raise ValueError(f"device {device.id}: the id is given twice")
            check(device, self._profiles)
        with self._lock:
            self._configs = tuple(devices)
            self._known_devices = known_devices
            self._press_mode = press_mode
            self._hook_switch = hook_switch
            self._keep_mute_key = keep_mute_key
        self._look()

    def start(self) -> None:
        """Open what is there, and from now on what comes."""
        with self._lock:
            self._running = True
        self._look()
        self._hotplug.start()

    def show(self, device_id: str, lights: Lights) -> None:
        """Show `lights` on a device, if it is open; never blocks, and the latest call wins."""
        if (button := self._open.get(device_id)) is not None:
            button.show(lights)

    def stop(self, timeout_s: float, final: Lights = DARK) -> list[str]:
        """Show `final` everywhere and close; return the ids of devices that hung longer than `timeout_s`."""
        deadline = self._now() + timeout_s
        with self._lock:
            self._running = False
            buttons = [*self._open.values(), *self._closing]
            for button in self._open.values():
                button.ask_to_stop(timeout_s * 0.8, final)
            self._open, self._closing = {}, []
        self._hotplug.stop(timeout_s)
        return [b.device.id for b in buttons if not b.wait_stopped(max(0.0, deadline - self._now()))]

    def describe(self) -> list[Sighting]:
        """Return what is plugged in or configured, and what became of it; also without `start`."""
        with self._lock:
            made, verdicts = self._plan()
            opened = dict(self._open)
        planned = {assignment.device.id: assignment for assignment in made}
        return [_sighting(v, planned.get(v.device_id or ""), opened.get(v.device_id or "")) for v in verdicts]

    def _hear(self, event: Event) -> None:
        self._feed(event)
        if isinstance(event, DeviceAttached | DeviceDetached):
            self._watch()

    def _watch(self) -> None:
        """Watch the configured paths, but not those that are open: a directory such as /dev/pts is a busy place."""
        fixed = {config.id: config.fixed_port for config in self._configs if config.fixed_port is not None}
        with self._watch_lock:  # whoever looks last has the last word
            opened = {device_id for device_id, button in self._open.items() if button.ready}
            self._hotplug.watch(port for device_id, port in fixed.items() if device_id not in opened)

    def _plan(self) -> tuple[list[Assignment], list[Verdict]]:
        fixed = {c.fixed_port: real_path(c.fixed_port) for c in self._configs if c.fixed_port is not None}
        in_use = {device_id: button.port for device_id, button in self._open.items()}
        nodes = list_nodes(SUBSYSTEMS)
        return assign(
            self._configs,
            self._profiles,
            nodes,
            fixed,
            in_use,
            known_devices=self._known_devices,
            press_mode=self._press_mode,
            hook_switch=self._hook_switch,
        )

    def _look(self) -> None:
        """Make what is open agree with what is wanted and there."""
        with self._lock:
            if not self._running:
                return
            before, after = self._open, {}
            starting: list[Button] = []
            for wanted in self._plan()[0]:
                button = before.get(wanted.device.id)
                if button is None or not self._is_as(wanted, button):
                    button = self._button(wanted)
                    starting.append(button)
                elif button.wanted != wanted.device:
                    button.update(wanted.device)
                if not button.ready:
                    button.retry()
                after[wanted.device.id] = button
            gone = [button for device_id, button in before.items() if after.get(device_id) is not button]
            for button in gone:
                button.ask_to_stop(CLOSE_S)
            self._closing = [button for button in (*self._closing, *gone) if not button.wait_stopped(0)]
            # `show` finds a button from before its thread runs, so that no light is missed.
            self._open = after
            for button in starting:
                rivals = [b for b in self._closing if b.port == button.port or b.device.id == button.device.id]
                button.start(after=rivals)
        self._watch()

    def _is_as(self, wanted: Assignment, button: Button) -> bool:
        keep = self._kept_keys.get(wanted.device.id, self._keep_of(wanted))
        return (button.port, button.protocol, keep) == (wanted.port, wanted.protocol, self._keep_of(wanted))

    def _keep_of(self, wanted: Assignment) -> KeepMuteKey:
        return wanted.keep_mute_key or self._keep_mute_key

    def _button(self, wanted: Assignment) -> Button:
        if not isinstance(wanted.protocol, HeadsetProtocol):
            return SerialButton(wanted.device, wanted.port, wanted.protocol, self._hear, self._now)
        keep = self._kept_keys[wanted.device.id] = self._keep_of(wanted)
        key = DesktopKey(wanted.port, keeps=keep is not KeepMuteKey.OFF, any_usage=keep is KeepMuteKey.ON)
        return Headset(wanted.device, wanted.port, wanted.protocol, self._hear, self._now, key)


def _sighting(verdict: Verdict, planned: Assignment | None, button: Button | None) -> Sighting:
    state, problem = _state(verdict, planned, button)
    device = planned.device if planned is not None else None
    node = verdict.node
    facts = ("links", "manufacturer", "product", "serial_number", "vendor_id", "product_id")
    return Sighting(
        port=verdict.port,
        state=state,
        device_id=verdict.device_id,
        name=device.name if device is not None else None,
        kind=device.kind if device is not None else None,
        press_mode=device.press_mode.value if device is not None else None,
        can=device.can if device is not None else (),
        profile=verdict.profile_id,
        problem=problem,
        why=verdict.why,
        **({fact: getattr(node, fact) for fact in facts} if node is not None else {}),
    )


def _state(verdict: Verdict, planned: Assignment | None, button: Button | None) -> tuple[str, str]:
    if planned is None:
        if verdict.device_id is None:
            return "unused", verdict.reason
        return ("absent" if verdict.node is None else "trouble"), verdict.reason
    if button is not None:
        state = "open" if button.ready else "absent" if button.absent else "trouble" if button.problem else "opening"
        return state, button.problem or ""
    if not os.path.exists(planned.port):  # noqa: PTH110 - a string in
        return "absent", "not plugged in"
    if not os.access(planned.port, os.R_OK | os.W_OK):
        edge = headset if isinstance(planned.protocol, HeadsetProtocol) else serial_button
        return "trouble", f"permission denied: {edge.remedy(planned.port)}"
    return "closed", ""
