"""Headsets at work: the daemon with real hidraw and event nodes, a real broker, and a softphone without audio."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import serial
from tests.lab.guest.desk import Daemon, Desk, Model, begin_call, wait_until_agreed, wait_until_lit
from tests.lab.guest.evdev import KEY_MICMUTE, KEY_VOLUMEUP, LED_MUTE, EventNode
from tests.lab.guest.firmware import LED_MUTE as PLAIN_LED_MUTE
from tests.lab.guest.firmware import LED_OFF_HOOK as PLAIN_LED_OFF_HOOK
from tests.lab.guest.firmware import PHONE_MUTE, PLAIN_HEADSET, Identity
from tests.lab.guest.gadget import UsbDevice
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.uhid import Uhid
from tests.lab.guest.waiting import wait_until

from mutebridge import virtual_headset
from mutebridge.virtual_headset import (
    ECHOING,
    JABRA,
    MAINTAINED,
    MUTE_LED,
    PLAIN,
    PLANTRONICS,
    RING_LED,
    Firmware,
)

NOBODY = 65534
KEY_UNKNOWN = 240
# Slower than a person's, at a person's fastest, faster than one.
PAUSES_S = (1.0, 0.25, 0.08)
QUIET_S = 2.5

pytestmark = pytest.mark.timeout(240)


def identity(vendor: int, product: int, serial: str = "ONE") -> Identity:
    return Identity(vendor=vendor, product=product, name=f"Phones {product:04x}", serial=serial)


# The kernel's input layer passes over a telephony collection, unless the device also has one that it knows. In this one
# it finds the mute key, and nothing else.
ONLY_A_MUTE_KEY = bytes.fromhex("05 0c 09 01 a1 01 05 0b") + virtual_headset.descriptor(PLAIN)[6:]

# The same for one in which the kernel finds the volume keys, too.
ALL_KEYS_IN_ONE = bytes.fromhex(
    "05 0c 09 01 a1 01 05 0b" + PLAIN_HEADSET[6:].hex().replace("c0050c0901a1018502", "050c8502")
)

PLAIN_IDENTITY = identity(0x1209, 0x0001)
MODELS = {
    "jabra": (JABRA, identity(0x0B0E, 0x24C9), ""),
    # Under emulation the 3 ms between its doubles may take longer.
    "plantronics": (PLANTRONICS, identity(0x047F, 0xC056), "{duplicate_within_ms: 50}"),
    "epos": (PLAIN, identity(0x1395, 0x0001), ""),
    "yealink": (PLAIN, identity(0x6993, 0x0001), ""),
    "echoing": (ECHOING, identity(0x1209, 0x0E01), "{mute_echo_ms: 500}"),
    "maintained": (MAINTAINED, identity(0x1209, 0x0E02), ""),
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    for folder in (tmp_path, *tmp_path.parents[:2]):  # for a daemon that is nobody
        folder.chmod(0o755)
    with Desk(tmp_path) as desk:
        yield desk


Plug = Callable[..., tuple[VirtualHeadset, Model]]


@pytest.fixture
def plug() -> Iterator[Plug]:
    with ExitStack() as stack:

        def make(
            firmware: Firmware, named: Identity = PLAIN_IDENTITY, descriptor: bytes | None = None
        ) -> tuple[VirtualHeadset, Model]:
            model = Model(firmware)
            wire = Uhid(named, descriptor or virtual_headset.descriptor(firmware))
            return stack.enter_context(VirtualHeadset(wire, model)).plug(), model

        yield make


def pause(seconds: float) -> None:
    """A person does nothing for so long."""
    threading.Event().wait(seconds)


@pytest.mark.parametrize("name", MODELS)
def test_a_call_with_presses_at_any_speed(name: str, desk: Desk, plug: Plug) -> None:
    firmware, named, overrides = MODELS[name]
    ids = f"match: {{vendor_id: {named.vendor:04x}, product_id: {named.product:04x}}}"
    config = f"devices: [{{id: it, {ids}, headset: {overrides}}}]\n" if overrides else ""
    headset, model = plug(firmware, named)
    with Daemon(desk, config) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        headset.act(model.opened)
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        pause(0.6)  # a press in the moment in which the lamps are written would be taken for their echo
        muted = False
        for _ in range(3):
            headset.act(model.press)
            muted = not muted
            wait_until_agreed(desk, model, muted)
            pause(0.6)  # any echo is over
        assert desk.presses == model.told == 3
        for pause_s in PAUSES_S:
            for _ in range(4):
                headset.act(model.press)
                pause(pause_s)
            pause(QUIET_S)
            wait_until_agreed(desk, model)
            if pause_s == PAUSES_S[0]:
                assert desk.presses == model.told
        # An echo and a press within its window are one; so are, if the machine is too busy to tell when they came, two
        # presses of a headset that doubles.
        if name not in ("echoing", "plantronics"):
            assert desk.presses == model.told
        if name != "jabra":  # which tells no press while the host has not answered the last
            assert model.told == 3 + 4 * len(PAUSES_S)
        desk.softphone.do("end")
        wait_until(lambda: model.headset.lamps == 0, "dark lamps")
        assert "it" in desk.devices() if overrides else named.serial.lower() in next(iter(desk.devices()))
    assert model.headset.lamps == 0


@pytest.mark.parametrize("name", ["jabra", "epos"])
def test_a_boom_arm_that_is_up_has_the_last_word(name: str, desk: Desk, plug: Plug) -> None:
    headset, model = plug(*MODELS[name][:2])
    with Daemon(desk) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        headset.act(model.arm_up)
        wait_until_agreed(desk, model, muted=True)
        desk.softphone.hand(False)
        wait_until_agreed(desk, model, muted=True)
        headset.act(model.arm_down)
        wait_until_agreed(desk, model, muted=False)


@pytest.mark.parametrize("name", ["jabra", "yealink"])
def test_the_call_button_answers_and_ends_where_it_is_forwarded(name: str, desk: Desk, plug: Plug) -> None:
    headset, model = plug(*MODELS[name][:2])
    with Daemon(desk, "hook_switch: forward\n") as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        daemon.wait_for_log(": up, MQTT")  # of a call that rang before, the softphone's clock is not known yet
        for _ in range(2):
            desk.softphone.do("ring")
            wait_until(lambda: bool(model.headset.lamps & RING_LED), "the ring lamp")
            headset.act(model.press_hook)
            wait_until(lambda: desk.softphone.get_state() == "connected", "answered")
            wait_until_agreed(desk, model, muted=False)
            headset.act(model.press)
            wait_until_agreed(desk, model, muted=True)
            pause(QUIET_S)
            headset.act(model.press_hook)
            wait_until(lambda: desk.softphone.get_state() == "disconnected", "ended")
            wait_until(lambda: model.headset.lamps == 0, "dark lamps")
            begin_call(desk)  # answered on the page; the hook switch follows the lamp
            wait_until_agreed(desk, model, muted=False)
            pause(QUIET_S)
            assert desk.softphone.get_state() == "connected", "an echo ends no call"
            desk.softphone.do("end")
            wait_until(lambda: model.headset.lamps == 0, "dark lamps")
            pause(QUIET_S)


def test_the_call_button_is_left_alone_by_default(desk: Desk, plug: Plug) -> None:
    headset, model = plug(PLAIN)
    with Daemon(desk) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        desk.softphone.do("ring")
        wait_until(lambda: bool(model.headset.lamps & RING_LED), "the ring lamp")
        headset.act(model.press_hook)
        pause(QUIET_S)
        assert desk.softphone.get_state() == "ringing"


def test_replugged_in_a_call_it_shows_the_truth_again(desk: Desk, plug: Plug) -> None:
    headset, model = plug(PLAIN)
    with Daemon(desk) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        headset.act(model.press)
        wait_until_agreed(desk, model, muted=True)
        for turn in range(2):
            headset.unplug()
            wait_until(lambda: not desk.devices(), "the device is gone")
            assert desk.softphone.mic is True
            model.headset.lamps, model.headset.muted = 0, False
            headset.plug()
            daemon.wait_for_log("open at /dev/hidraw", times=2 + turn)
            wait_until_agreed(desk, model, muted=True)
        headset.act(model.press)
        wait_until_agreed(desk, model, muted=False)


def test_without_permission_it_says_once_what_to_do_and_works_once_it_may(desk: Desk, plug: Plug) -> None:
    headset, model = plug(PLAIN, descriptor=ONLY_A_MUTE_KEY)
    Path(headset.node).chmod(0o600)
    with Daemon(desk, user=NOBODY) as daemon:
        daemon.wait_for_log("permission denied: install the udev rule")
        told = daemon.devices()
        assert "Phones 0001: trouble\n  why:       permission denied: install the udev rule" in told
        assert "can:       mute button, hook switch" in told
        assert "report 2, bit 1" in told
        pause(3)
        assert daemon.count("permission denied") == 1
        Path(headset.node).chmod(0o666)
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        headset.act(model.press)
        wait_until_agreed(desk, model, muted=True)
        daemon.wait_for_log("the desktop sees the mute key too: no permission")
        assert daemon.count("the desktop sees the mute key too") == 1


def test_two_of_a_kind_with_one_serial_number(desk: Desk, plug: Plug) -> None:
    pair = [plug(PLAIN, identity(0x1209, 0x0002, "SAME")) for _ in range(2)]
    with Daemon(desk) as daemon:
        ids = desk.wait_for_devices(2)
        begin_call(desk)
        for _, model in pair:
            wait_until_agreed(desk, model, muted=False)
        muted = False
        for headset, model in pair:
            headset.act(model.press)
            muted = not muted
            wait_until(lambda muted=muted: desk.softphone.mic is muted, "the microphone")  # type: ignore[misc]
            for _, other in pair:
                wait_until_lit(other, muted)
        pair[0][0].unplug()
        left = desk.wait_for_devices(1)
        assert left < ids
        pair[0][0].plug()
        assert desk.wait_for_devices(2) == ids
        daemon.wait_for_log("open at /dev/hidraw", times=3)


def test_a_flood_delays_nobody(desk: Desk, plug: Plug) -> None:
    noisy, _ = plug(PLAIN, identity(0x1209, 0x0003, "NOISY"))
    headset, model = plug(PLAIN)
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            noisy.send(*[bytes([2, 0])] * 500)

    with Daemon(desk) as daemon:
        desk.wait_for_devices(2)
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            daemon.wait_for_log("sends more than 1000 reports a second")
            muted = False
            for _ in range(4):
                headset.act(model.press)
                muted = not muted
                wait_until_agreed(desk, model, muted)
        finally:
            ended.set()
            flooding.join()
        assert daemon.count("sends more than") == 1


def press(headset: VirtualHeadset) -> None:
    headset.send(bytes([1, PHONE_MUTE]), bytes([1, 0]))


def codes(desktop: EventNode, count: int) -> list[int]:
    return [desktop.next_key().code for _ in range(count)]


def call_for_key_test(desk: Desk, headset: VirtualHeadset) -> None:
    begin_call(desk)
    wait_until(lambda: list(headset.outputs.queue)[-1:] == [bytes([1, PLAIN_LED_OFF_HOOK])], "off-hook")
    pause(1)  # the key follows the lamps


def test_the_desktop_gets_the_volume_keys_but_no_mute_key_in_a_call(desk: Desk, plug: Plug) -> None:
    headset, _ = plug(PLAIN, descriptor=ALL_KEYS_IN_ONE)
    with EventNode(headset.node) as desktop, Daemon(desk) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        daemon.wait_for_log("broker .*: up")
        press(headset)
        assert codes(desktop, 2) == [KEY_MICMUTE] * 2
        call_for_key_test(desk, headset)
        press(headset)
        wait_until(lambda: desk.softphone.mic, "muted")
        headset.send(bytes([2, 1]), bytes([2, 0]))
        assert codes(desktop, 4) == [KEY_UNKNOWN] * 2 + [KEY_VOLUMEUP] * 2
        desk.softphone.do("end")
        wait_until(lambda: headset.outputs.queue[-1] == bytes([1, 0]), "dark")
        pause(1)
        press(headset)
        assert codes(desktop, 2) == [KEY_MICMUTE] * 2


def test_a_mute_key_that_a_killed_daemon_kept_is_given_back(desk: Desk, plug: Plug) -> None:
    headset, _ = plug(PLAIN, descriptor=ALL_KEYS_IN_ONE)
    with EventNode(headset.node) as desktop:
        with Daemon(desk) as daemon:
            daemon.wait_for_log("open at /dev/hidraw")
            call_for_key_test(desk, headset)
            daemon.kill()
        desk.softphone.do("end")
        press(headset)
        assert codes(desktop, 2) == [KEY_UNKNOWN] * 2
        with Daemon(desk) as daemon:
            daemon.wait_for_log("given back to the desktop")
            press(headset)
            assert codes(desktop, 2) == [KEY_MICMUTE] * 2
            call_for_key_test(desk, headset)
        press(headset)
        assert codes(desktop, 2) == [KEY_MICMUTE] * 2


def test_a_node_with_nothing_but_the_mute_key_is_grabbed(desk: Desk, plug: Plug) -> None:
    headset, model = plug(PLAIN, descriptor=ONLY_A_MUTE_KEY)
    with EventNode(headset.node) as desktop, Daemon(desk) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        pause(1)
        for muted in (True, False):
            headset.act(model.press)
            wait_until_agreed(desk, model, muted)
        desk.softphone.do("end")
        wait_until(lambda: model.headset.lamps == 0, "dark lamps")
        pause(1)
        headset.act(model.press)
        pulse = [desktop.next_key() for _ in range(2)]
        assert [(key.code, key.value) for key in pulse] == [(KEY_MICMUTE, 1), (KEY_MICMUTE, 0)]
        with pytest.raises(TimeoutError):
            desktop.next_key(1.0)


def test_off_leaves_the_desktop_alone(desk: Desk, plug: Plug) -> None:
    headset, model = plug(PLAIN, descriptor=ONLY_A_MUTE_KEY)
    with EventNode(headset.node) as desktop, Daemon(desk, "keep_mute_key_from_desktop: off\n") as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        wait_until_agreed(desk, model, muted=False)
        pause(1)
        headset.act(model.press)
        wait_until_agreed(desk, model, muted=True)
        assert desktop.next_key().code == KEY_MICMUTE


def test_lamps_that_the_desktop_switches_are_written_again(desk: Desk, plug: Plug) -> None:
    headset, _ = plug(PLAIN, descriptor=PLAIN_HEADSET)
    right = bytes([1, PLAIN_LED_OFF_HOOK | PLAIN_LED_MUTE])
    with EventNode(headset.node) as desktop, Daemon(desk) as daemon:
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        desk.softphone.hand(True)
        wait_until(lambda: right in headset.outputs.queue, "muted lamp")
        for on in (True, False):
            desktop.light(LED_MUTE, on=on)
            wrong = bytes([1, PLAIN_LED_MUTE if on else 0])
            wait_until(lambda wrong=wrong: wrong in headset.outputs.queue, "the desktop's")  # type: ignore[misc]
            wait_until(lambda: headset.outputs.queue[-1] == right, "put right")


def test_lamps_that_another_program_writes_are_written_again(desk: Desk, plug: Plug) -> None:
    headset, model = plug(PLAIN)
    with Daemon(desk) as daemon, Path(headset.node).open("r+b", buffering=0) as rival:
        daemon.wait_for_log("open at /dev/hidraw")
        begin_call(desk)
        desk.softphone.hand(True)
        wait_until_agreed(desk, model, muted=True)
        pause(1)
        right = model.headset.lamps
        for wrong in (0, MUTE_LED, right | RING_LED):
            rival.write(bytes([virtual_headset.REPORT_ID, wrong]))
            wait_until(lambda wrong=wrong: bytes([2, wrong]) in headset.outputs.queue, "theirs")  # type: ignore[misc]
            wait_until(lambda: model.headset.lamps == right, "put right")
        rival.writelines([bytes([virtual_headset.REPORT_ID, 0])] * 200)  # it insists
        headset.act(model.press)
        wait_until(lambda: desk.softphone.mic is False, "the press")
        wait_until_agreed(desk, model, muted=False)
        assert daemon.count("another program writes to it") == 1
        assert "mute button" in daemon.devices("--descriptor", headset.node)


def test_a_usb_headset_and_a_serial_button_at_once(desk: Desk) -> None:
    config = "devices: [{id: pedal, port: /dev/serial/by-id/*Button*, profile: lines, serial: {settle_s: 0}}]\n"
    model = Model(JABRA)
    with (
        UsbDevice(MODELS["jabra"][1], hid_descriptor=virtual_headset.descriptor(JABRA)) as usb,
        UsbDevice(Identity(product=0x0008, name="Virtual Button", serial="BUTTON"), acm=True) as button,
        VirtualHeadset(usb, model) as headset,
        Daemon(desk, config) as daemon,
    ):
        headset.plug()
        button.plug_serial()
        # Until it is opened, the board's end is a terminal, which would echo the lamp's words as the board's own.
        with serial.Serial(button.serial_node) as board:
            ids = desk.wait_for_devices(2)
            assert "pedal" in ids
            told = {device["device_id"]: device for device in json.loads(daemon.devices("--json"))["devices"]}
            assert told["phones-24c9-one"]["profile"] == "jabra"
            assert "evdev:input:b*v0B0Ep24C9*\n KEYBOARD_KEY_b002f=reserved\n" in daemon.devices("--hwdb")
            begin_call(desk)
            wait_until_agreed(desk, model, muted=False)
            headset.act(model.press)
            wait_until_agreed(desk, model, muted=True)
            board.write(b"toggle\n")
            wait_until_agreed(desk, model, muted=False)
            board.write(b"toggle\n")
            wait_until_agreed(desk, model, muted=True)
            headset.unplug()
            assert desk.wait_for_devices(1) == {"pedal"}
            model.headset.lamps = 0
            headset.plug()
            assert desk.wait_for_devices(2) == ids
            wait_until_agreed(desk, model, muted=True)
