"""What a virtual headset does by itself: the seam between a wire and a model of some firmware.

A model is pure: it gets the time and returns reports. It is the model that knows what a press, a boom arm or an
unanswered event means; the wire knows only bytes. Any object with these two methods will do.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Firmware(Protocol):
    """Reports are as on the wire, with the report ID first if the descriptor has IDs. Times are `monotonic` seconds."""

    def on_output(self, report: bytes, now: float) -> Iterable[bytes]:
        """The host wrote this output report; returns the input reports that the device sends for it."""

    def on_time(self, now: float) -> tuple[Iterable[bytes], float | None]:
        """Returns what the device sends by now, and when it wants to be asked again.

        It is asked after plugging in, after every output report and act, and at the time that it named.
        """


class Identity(NamedTuple):
    """What a device says it is; `serial` must differ between devices that are plugged in together."""

    vendor: int = 0x1209
    product: int = 0x0001
    name: str = "Virtual Headset"
    serial: str = "LAB1"
    version: int = 0x0102


class Silent:
    """The firmware of a device that does nothing by itself."""

    def on_output(self, report: bytes, now: float) -> Sequence[bytes]:  # noqa: ARG002
        return ()

    def on_time(self, now: float) -> tuple[Sequence[bytes], None]:  # noqa: ARG002
        return (), None


# A headset of the most common kind, written after the HID usage tables. Report 1 in: bit 0 Hook Switch (absolute),
# bit 1 Phone Mute (relative: a toggle button). Report 1 out: bit 0 Mute, bit 1 Off-Hook, bit 2 Ring. Report 2: volume.
PLAIN_HEADSET = bytes.fromhex(
    "05 0B 09 05 A1 01 85 01"  # Telephony page, Headset: application collection, report 1
    "15 00 25 01 75 01"
    "95 01 09 20 81 22"  # Hook Switch: variable, absolute, no preferred state
    "95 01 09 2F 81 06"  # Phone Mute: variable, relative
    "95 06 81 03"
    "05 08 95 03 09 09 09 17 09 18 91 22"  # LED page: Mute, Off-Hook, Ring
    "95 05 91 03 C0"
    "05 0C 09 01 A1 01 85 02"  # Consumer page, Consumer Control: application collection, report 2
    "15 00 25 01 75 01 95 02 09 E9 09 EA 81 02"
    "95 06 81 03 C0"
)
HOOK_SWITCH, PHONE_MUTE = 0x01, 0x02
LED_MUTE, LED_OFF_HOOK, LED_RING = 0x01, 0x02, 0x04
