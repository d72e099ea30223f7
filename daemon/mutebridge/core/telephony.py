"""What a device can do for a call, read from its report descriptor: its buttons and its lamps.

`Telephony.from_descriptor` finds each control by its usage, wherever it is: which report, which bit, which collection
differs from model to model. Only standard usage pages count. Many vendors mirror a press in a report on a page of their
own; that one is not read, so a press counts once. Where a standard usage occurs twice, the one in a telephony
collection wins, then the first.

`Decoder` turns input reports into `Signal`s. What a bit means follows from the flags of its field (HID Usage Tables
3.4.1.2), unless the profile knows better:

    Relative, 0..1           toggle button     1 is a press, 0 says nothing; sent as 1, 0 at once
    Relative, -1..1          on/off buttons    +1 on, -1 off
    Absolute, No Preferred   toggle switch     the value is the state; the first one is a baseline
    Absolute, Preferred      momentary         1 while held
    Array                    selector          named in the array while held

`Telephony.encode` writes lamps: always the complete set, always the full length of each report, because lamps that
share a report are written together and firmware takes a short report for another one.
"""

import enum
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from mutebridge.core import usages
from mutebridge.core.events import PressMode
from mutebridge.core.headset_profile import GENERIC, ControlKind, HeadsetProfile
from mutebridge.core.report_descriptor import Direction, Field, Place, ReportDescriptor
from mutebridge.core.usages import Usage, usage_name

MAX_SLOTS = 64  # of an array; far beyond the fingers of a hand, and bounds the work for one report

_KEYBOARD: Usage = (usages.GENERIC_DESKTOP_PAGE, 0x06)


class LampName(enum.Enum):
    """The lamps, and the audible ringer; in the order in which their reports are written."""

    OFF_HOOK = "off_hook"
    RING = "ring"
    HOLD = "hold"
    MICROPHONE = "microphone"
    ON_LINE = "on_line"
    SPEAKER = "speaker"
    RINGER = "ringer"
    MUTE = "mute"


_LAMP_USAGES = {
    LampName.OFF_HOOK: usages.LED_OFF_HOOK,
    LampName.RING: usages.LED_RING,
    LampName.HOLD: usages.LED_HOLD,
    LampName.MICROPHONE: usages.LED_MICROPHONE,
    LampName.ON_LINE: usages.LED_ON_LINE,
    LampName.SPEAKER: usages.LED_SPEAKER,
    LampName.RINGER: usages.RINGER,
    LampName.MUTE: usages.LED_MUTE,
}


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A button: `size` bits at `bit`, from the first byte after the report id; in an array, `count` slots of them.

    `selector` is the value that names it in a slot of an array. `valid` is the range of values that say something.
    `wish`: each report says what is asked for, as the profile has it, so one that repeats the last is a press too.
    """

    usage: Usage
    kind: ControlKind
    report_id: int
    bit: int
    size: int
    count: int = 1
    selector: int | None = None
    signed: bool = False
    valid: tuple[int, int] | None = None
    wish: bool = False

    def value_in(self, payload: bytes) -> int | None:
        """Return the value; of an array 1 if it is named, else 0. None if the report is too short to say."""
        if self.selector is None:
            return self._checked(_bits(payload, self.bit, self.size, self.signed))
        slots = [_bits(payload, self.bit + n * self.size, self.size, self.signed) for n in range(self.count)]
        return None if None in slots else int(self.selector in slots)

    def _checked(self, value: int | None) -> int | None:
        if value is None or self.valid is None or self.valid[0] <= value <= self.valid[1]:
            return value
        return None  # the null state: no news

    def described(self) -> dict[str, Any]:
        return {"report_id": self.report_id, "bit": self.bit, "kind": self.kind.value}


class Lamp(msgspec.Struct, frozen=True, kw_only=True):
    """A lamp, or the ringer: 1 in `size` bits at `bit`, from the first byte after the report id, is on."""

    report_id: int
    bit: int
    size: int

    def described(self) -> dict[str, Any]:
        return {"report_id": self.report_id, "bit": self.bit}


class Telephony(msgspec.Struct, frozen=True, kw_only=True):
    """What one device can do.

    `mute_button` is the control that mutes: Phone Mute, or one of `consumer_mute` and `system_microphone_mute` where
    the profile names it; `consumer_mute` is None unless it does. `why` says how each item was found, or why it is not
    offered.
    """

    mute_button: Control | None
    consumer_mute: Control | None
    system_microphone_mute: Control | None
    hook_switch: Control | None
    reject: Control | None
    lamps: dict[LampName, Lamp]
    why: dict[str, str]
    input_numbered: bool
    output_bytes: dict[int, int]

    @classmethod
    def from_descriptor(cls, descriptor: ReportDescriptor, profile: HeadsetProfile = GENERIC) -> "Telephony":
        """Find the controls and lamps of a device."""
        return _Search(descriptor, profile).result()

    @property
    def usable(self) -> bool:
        """Whether the device has anything that a mute button needs."""
        return self.mute_button is not None or LampName.MUTE in self.lamps

    @property
    def press_mode(self) -> PressMode:
        """What the gestures of the mute button ask for, when the user says nothing else."""
        states = (ControlKind.TOGGLE_SWITCH, ControlKind.ON_OFF_BUTTONS)
        return PressMode.STATE if self.mute_button and self.mute_button.kind in states else PressMode.TOGGLE

    @property
    def can(self) -> tuple[str, ...]:
        """What it can do, in the field's words."""
        buttons = {"mute button": self.mute_button, "hook switch": self.hook_switch, "reject": self.reject}
        lamps = [
            "ringer" if lamp is LampName.RINGER else f"{lamp.value.replace('_', '-')} LED"
            for lamp in LampName
            if lamp in self.lamps
        ]
        return (*[name for name, control in buttons.items() if control], *lamps)

    def encode(self, on: Collection[LampName]) -> dict[int, bytes]:
        """Return the whole output report, id byte first (0 for none), for each report id that has lamps."""
        reports: dict[int, int] = {}
        for name in LampName:
            lamp = self.lamps.get(name)
            if lamp is not None:
                reports[lamp.report_id] = reports.get(lamp.report_id, 0) | (int(name in on) << lamp.bit)
        return {
            report_id: bytes([report_id]) + bits.to_bytes(self.output_bytes[report_id], "little")
            for report_id, bits in reports.items()
        }

    def described(self) -> dict[str, Any]:
        """Return it for a machine: bits are counted from the first byte after the report id."""
        controls = {
            "mute_button": self.mute_button,
            "hook_switch": self.hook_switch,
            "reject": self.reject,
            "consumer_mute": self.consumer_mute,
            "system_microphone_mute": self.system_microphone_mute,
        }
        lamps = {name.value: lamp.described() for name, lamp in self.lamps.items()}
        ringer = lamps.pop(LampName.RINGER.value, None)
        return {
            **{name: control and control.described() for name, control in controls.items()},
            "leds": lamps,
            "ringer": ringer,
            "why": self.why,
        }


class Key(enum.Enum):
    """The buttons that matter."""

    MUTE = "mute"
    HOOK = "hook"
    REJECT = "reject"


class Act(enum.Enum):
    """What happened to a button: `TOGGLED` is a press without a release, `ON` and `OFF` are states."""

    TOGGLED = "toggled"
    PRESSED = "pressed"
    RELEASED = "released"
    ON = "on"
    OFF = "off"


class Signal(msgspec.Struct, frozen=True):
    """`first`: the first word of a switch, which is where it stands and not a press."""

    key: Key
    act: Act
    first: bool = False


class Decoder:
    """Reads the input reports of one device since it was opened.

    Some devices move their hook switch with the off-hook lamp and send no report of it. One is known by a report about
    another key that carries its hook switch where the lamp is, though it was elsewhere; from then on it is taken to
    stand where the lamp does. Otherwise the next press, which puts it back, would seem to change nothing.
    """

    def __init__(self, telephony: Telephony) -> None:
        controls = {Key.MUTE: telephony.mute_button, Key.HOOK: telephony.hook_switch, Key.REJECT: telephony.reject}
        self._controls = {key: control for key, control in controls.items() if control is not None}
        self._numbered = telephony.input_numbered
        # Only a mute switch may stand anywhere at first; whatever else is on was just pressed.
        self._last: dict[Key, int] = dict.fromkeys((Key.HOOK, Key.REJECT), 0)
        self._off_hook_lit: bool | None = None
        self._hook_follows_lamp = False

    def off_hook_written(self, *, lit: bool) -> None:
        """Hear that the off-hook lamp was switched."""
        self._off_hook_lit = lit
        if self._hook_follows_lamp:
            self._last[Key.HOOK] = int(lit)

    def decode(self, data: bytes) -> list[Signal]:
        """Read one report as hidraw gives it; one that is too short, too long or unknown is no error."""
        report_id, payload = (data[0], data[1:]) if self._numbered and data else (0, data)
        values = {
            key: value
            for key, control in self._controls.items()
            if control.report_id == report_id and (value := control.value_in(payload)) is not None
        }
        moved = {key for key, value in values.items() if self._last.get(key) != value}
        if moved > {Key.HOOK} and bool(values[Key.HOOK]) is self._off_hook_lit:
            self._hook_follows_lamp = self._controls[Key.HOOK].kind is ControlKind.TOGGLE_SWITCH
        signals = [self._signal(key, value, alone=moved <= {key}) for key, value in values.items()]
        self._last |= values
        return [signal for signal in signals if signal is not None]

    def _signal(self, key: Key, value: int, *, alone: bool) -> Signal | None:
        control, last = self._controls[key], self._last.get(key)
        if control.wish:  # a report about another key only carries it
            return Signal(key, Act.ON if value else Act.OFF) if alone else None
        match control.kind:
            case ControlKind.TOGGLE_BUTTON:
                return Signal(key, Act.TOGGLED) if value else None
            case ControlKind.ON_OFF_BUTTONS:
                return Signal(key, Act.ON if value > 0 else Act.OFF) if value else None
            case ControlKind.TOGGLE_SWITCH:
                changed = last is None or bool(last) is not bool(value)
                return Signal(key, Act.ON if value else Act.OFF, first=last is None) if changed else None
        changed = bool(last) is not bool(value)
        return Signal(key, Act.PRESSED if value else Act.RELEASED) if changed else None


def _bits(payload: bytes, bit: int, size: int, signed: bool) -> int | None:
    end = bit + size
    if size == 0 or end > 8 * len(payload):
        return None
    value = int.from_bytes(payload[bit // 8 : (end + 7) // 8], "little") >> bit % 8 & (1 << size) - 1
    return value - (1 << size) if signed and value >> size - 1 else value


# --- the search

_PHONE_MUTE_MISSING = "there is no Phone Mute (0x0B:0x2F)"
_KIND_FLAGS = {
    ControlKind.TOGGLE_BUTTON: "Relative",
    ControlKind.ON_OFF_BUTTONS: "Relative, -1..1",
    ControlKind.TOGGLE_SWITCH: "Absolute, No Preferred",
    ControlKind.MOMENTARY: "Absolute, Preferred",
    ControlKind.SELECTOR: "one of an array",
}


class _Search:
    def __init__(self, descriptor: ReportDescriptor, profile: HeadsetProfile) -> None:
        self._descriptor = descriptor
        self._profile = profile
        self._why: dict[str, str] = {}

    def result(self) -> Telephony:
        phone_mute = self._control(usages.PHONE_MUTE, self._profile.mute_kind)
        if phone_mute is not None and self._profile.sends_wished_state:
            phone_mute = msgspec.structs.replace(phone_mute, wish=True)
        consumer = self._control(usages.CONSUMER_MUTE, self._profile.mute_kind)
        system = self._control(usages.SYSTEM_MICROPHONE_MUTE, self._profile.mute_kind)
        mute_button = self._mute_button(phone_mute, consumer, system)
        hook_switch = self._hook_switch()
        reject = self._reject()
        lamps = self._lamps()
        return Telephony(
            mute_button=mute_button,
            consumer_mute=consumer if self._profile.consumer_mute_is_microphone else None,
            system_microphone_mute=system,
            hook_switch=hook_switch,
            reject=reject,
            lamps=lamps,
            why=self._why,
            input_numbered=self._descriptor.numbered(Direction.INPUT),
            output_bytes={
                lamp.report_id: self._descriptor.report_bytes(Direction.OUTPUT, lamp.report_id)
                for lamp in lamps.values()
            },
        )

    # --- buttons

    def _control(self, usage: Usage, kind: ControlKind | None) -> Control | None:
        places = self._descriptor.find(usage, Direction.INPUT)
        place = min(_with_room(places), key=_preference, default=None)
        return None if place is None else _control_at(usage, place, kind)

    def _mute_button(
        self, phone_mute: Control | None, consumer: Control | None, system: Control | None
    ) -> Control | None:
        by_profile = [
            (consumer, self._profile.consumer_mute_is_microphone),
            (system, self._profile.system_mute_is_microphone),
        ]
        found = phone_mute or next((control for control, named in by_profile if named and control), None)
        if found is not None:
            self._why["mute_button"] = self._told(found, self._profile.mute_kind) + self._mirrors(found)
        elif consumer is not None:
            self._why["mute_button"] = (
                f"{_PHONE_MUTE_MISSING}; {_told_place(consumer)} mutes the loudspeaker on most devices and counts only"
                " where a profile names the model"
            )
        elif system is not None:
            self._why["mute_button"] = (
                f"{_PHONE_MUTE_MISSING}; {_told_place(system)} is a keyboard's and counts only where a profile names"
                " the model"
            )
        else:
            self._why["mute_button"] = _PHONE_MUTE_MISSING + self._unreachable(usages.PHONE_MUTE)
        return found

    def _told(self, control: Control, by_profile: ControlKind | None) -> str:
        source = "by the profile" if by_profile else _KIND_FLAGS[control.kind]
        return f"{_told_place(control)}; {source}: {control.kind.value.replace('_', ' ')}"

    def _mirrors(self, control: Control) -> str:
        """Tell of the same usage id on vendor pages, which would count each press twice."""
        mirrors = {
            f"0x{field.usages[0].page:04X}"
            for field in self._descriptor.fields
            if field.direction is Direction.INPUT
            for mirror in field.usages
            if mirror.page >= 0xFF00 and mirror.first <= control.usage[1] <= mirror.last
        }
        return f"; the same press on vendor page {', '.join(sorted(mirrors))} is not read" if mirrors else ""

    def _unreachable(self, usage: Usage) -> str:
        """Tell of an array that lists a usage among its selectors, beyond the values that it can take."""
        listed = any(
            selectors.page == usage[0] and selectors.first <= usage[1] <= selectors.last
            for field in self._descriptor.fields
            for selectors in field.usages
        )
        return "; it is listed where no value can name it" if listed else ""

    def _hook_switch(self) -> Control | None:
        # Real Hook Switches are states whether or not they are flagged No Preferred.
        found = self._control(usages.HOOK_SWITCH, self._profile.hook_kind)
        if found is not None and self._profile.hook_kind is None and found.kind is ControlKind.MOMENTARY:
            found = msgspec.structs.replace(found, kind=ControlKind.TOGGLE_SWITCH)
        if found is None:
            self._why["hook_switch"] = "there is no Hook Switch (0x0B:0x20)"
        else:
            self._why["hook_switch"] = f"{_told_place(found)}: {found.kind.value.replace('_', ' ')}"
        return found

    def _reject(self) -> Control | None:
        """Programmable Button by either reading of the page, or Button 7 of a telephony collection."""
        places = [
            (usages.PROGRAMMABLE_BUTTON, place)
            for place in self._descriptor.find(usages.PROGRAMMABLE_BUTTON, Direction.INPUT, either_page=True)
        ] + [
            (usages.BUTTON_7, place)
            for place in self._descriptor.find(usages.BUTTON_7, Direction.INPUT)
            if _of_telephony(place.field)
        ]
        usage, place = next(((u, p) for u, p in places if not p.field.array and p.field.size), (None, None))
        if usage is None or place is None:
            return None
        found = _control_at(usage, place, None)
        self._why["reject"] = _told_place(found)
        return found

    # --- lamps

    def _lamps(self) -> dict[LampName, Lamp]:
        lamps = {}
        for name in LampName:
            usage = _LAMP_USAGES[name]
            places = [p for p in _with_room(self._descriptor.find(usage, Direction.OUTPUT)) if not p.field.array]
            place = min((p for p in places if p.field.application != _KEYBOARD), key=_preference, default=None)
            if place is not None:
                field = place.field
                lamps[name] = Lamp(report_id=field.report_id, bit=place.bit, size=field.size)
                self._why[f"{name.value}_led" if name is not LampName.RINGER else "ringer"] = (
                    f"{usage_name(usage)} is in output report {field.report_id}, bit {place.bit}"
                )
        return lamps


def _with_room(places: Iterator[Place]) -> Iterator[Place]:
    return (place for place in places if place.field.size)


def _of_telephony(field: Field) -> bool:
    return usages.TELEPHONY_PAGE in {(field.application or (0, 0))[0], (field.top_level or (0, 0))[0]}


def _preference(place: Place) -> tuple[bool, bool]:
    """The smallest wins, among equals the first: a telephony collection, then a bit of its own."""
    return not _of_telephony(place.field), place.field.array


def _kind(field: Field) -> ControlKind:
    if field.array:
        return ControlKind.SELECTOR
    if field.relative:
        two_buttons = field.logical_min < 0 and field.size > 1
        return ControlKind.ON_OFF_BUTTONS if two_buttons else ControlKind.TOGGLE_BUTTON
    return ControlKind.TOGGLE_SWITCH if field.no_preferred else ControlKind.MOMENTARY


def _control_at(usage: Usage, place: Place, kind: ControlKind | None) -> Control:
    field = place.field
    return Control(
        usage=usage,
        kind=kind or _kind(field),
        report_id=field.report_id,
        bit=place.bit,
        size=field.size,
        count=min(field.count, MAX_SLOTS) if field.array else 1,
        selector=place.value if field.array else None,
        signed=field.logical_min < 0 and field.size > 1,
        valid=(field.logical_min, field.logical_max) if field.null_state else None,
    )


def _told_place(control: Control) -> str:
    where = f"input report {control.report_id}, bit {control.bit}"
    slot = f", value {control.selector} of the array" if control.selector is not None else ""
    return f"{usage_name(control.usage)} is in {where}{slot}"
