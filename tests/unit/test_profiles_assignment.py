"""Which device node becomes which device."""

from typing import Any

import msgspec
import pytest

from mutebridge.core.assignment import Assignment, DeviceConfig, Verdict, assign, check
from mutebridge.core.button_protocol import SerialProtocol
from mutebridge.core.events import PressMode
from mutebridge.core.hook_switch import HookSwitch
from mutebridge.core.profiles import DeviceNode, profiles_from_dict

PROFILES = {
    profile.id: profile
    for profile in profiles_from_dict(
        {
            "talk": {
                "name": "Talk",
                "source": "a test",
                "match": {"product": "Talk*"},
                "press_mode": "push_to_talk",
                "serial": {"press": "P", "release": "R", "send": {"muted": "M", "live": "L"}},
            },
            "phones": {
                "name": "Phones",
                "source": "a test",
                "match": {"vendor_id": "0001"},
                "headset": {"host_must_ack_mute": True},
            },
            "knob": {"name": "Knob", "source": "a test", "serial": {"toggle": "T"}},
        },
        "test",
    )
}


def node(path: str, product: str | None = None, serial_number: str | None = None, *links: str) -> DeviceNode:
    return DeviceNode(path=path, subsystem="tty", product=product, serial_number=serial_number, links=links)


def device(**keys: Any) -> DeviceConfig:
    config = msgspec.convert(keys, DeviceConfig)
    check(config, PROFILES)
    return config


def plan(
    configs: list[DeviceConfig], nodes: list[DeviceNode], in_use: dict[str, str] | None = None, **more: Any
) -> tuple[dict[str, Assignment], list[Verdict]]:
    made, verdicts = assign(configs, PROFILES, nodes, more.pop("real_paths", {}), in_use or {}, **more)
    assert len({a.port for a in made}) == len(made), "one port, one device"
    return {a.device.id: a for a in made}, verdicts


def spoken(assignment: Assignment) -> SerialProtocol:
    assert isinstance(assignment.protocol, SerialProtocol)
    return assignment.protocol


def test_a_known_board_needs_no_configuration() -> None:
    made, _ = plan([], [node("/dev/ttyACM0", "Talkie", "A/1 x")])
    assert made["talk-a-1-x"].port == "/dev/ttyACM0"
    assert made["talk-a-1-x"].device.name == "Talk"
    assert made["talk-a-1-x"].device.press_mode is PressMode.PUSH_TO_TALK
    assert made["talk-a-1-x"].device.can == ("mute_button", "release", "mute_light")


def test_known_boards_keep_their_ids_over_replugging() -> None:
    link = "/dev/serial/by-path/pci-usb-0:2:1.0"
    first, _ = plan([], [node("/dev/ttyACM0", "Talk", None, link)])
    second, _ = plan([], [node("/dev/ttyACM7", "Talk", None, link)])
    assert list(first) == list(second) == ["talk-pci-usb-0-2-1.0"]
    assert list(plan([], [node("/dev/ttyACM7", "Talk")])[0]) == ["talk-ttyacm7"]


def test_two_alike_are_two_devices() -> None:
    made, _ = plan([], [node("/dev/ttyACM0", "Talk", "1"), node("/dev/ttyACM1", "Talk", "1")])
    assert sorted(made) == ["talk-1", "talk-ttyacm1"]


def test_a_long_serial_number_gives_a_valid_id() -> None:
    (made,) = plan([], [node("/dev/ttyACM0", "Talk", "x" * 300)])[0]
    assert len(made) <= 64


def test_known_boards_can_be_switched_off() -> None:
    made, (verdict,) = plan([], [node("/dev/ttyACM0", "Talk")], known_devices=False)
    assert not made
    assert "switched off" in verdict.reason


def test_an_unknown_board_is_left_alone_and_the_reason_says_what_to_do() -> None:
    made, (verdict,) = plan([], [node("/dev/ttyUSB0", "CP2102")])
    assert not made
    assert "'port'" in verdict.reason


def test_a_configured_board_is_not_taken_twice() -> None:
    made, _ = plan([device(id="desk", match={"product": "Talk"}, name="Desk")], [node("/dev/ttyACM0", "Talk", "1")])
    assert list(made) == ["desk"]
    assert made["desk"].device.name == "Desk"
    assert made["desk"].profile_id == "talk"
    assert made["desk"].device.press_mode is PressMode.PUSH_TO_TALK


def test_the_configuration_lays_its_keys_over_the_profile() -> None:
    config = device(
        id="desk",
        profile="talk",
        press_mode="toggle",
        serial={"send": {"muted": None, "pending": "P?"}, "debounce_ms": 5, "release": ["R", "r"]},
    )
    made, _ = plan([config], [node("/dev/ttyACM0", "Talk")])
    talk = spoken(made["desk"])
    assert (talk.press, talk.release, talk.debounce_ms) == ("P", ("R", "r"), 5)
    assert (talk.send.muted, talk.send.live, talk.send.pending) == (None, "L", "P?")
    assert made["desk"].device.press_mode is PressMode.TOGGLE


def test_a_fixed_port_is_wanted_whether_it_is_there_or_not() -> None:
    config = device(id="desk", port="/tmp/button", serial={"muted": "0", "live": "1"})
    made, (verdict,) = plan([config], [])
    assert made["desk"].port == "/tmp/button"
    assert made["desk"].device.press_mode is PressMode.STATE
    assert verdict.device_id == "desk"


def test_a_fixed_port_that_is_a_link_claims_its_node() -> None:
    config = device(id="desk", port="/dev/my-button", profile="knob")
    nodes = [node("/dev/ttyACM0", "Talk"), node("/dev/ttyACM1", "Talk", "2")]
    made, _ = plan([config], nodes, real_paths={"/dev/my-button": "/dev/ttyACM0"})
    assert sorted(made) == ["desk", "talk-2"]
    assert made["desk"].port == "/dev/my-button"


def test_a_port_may_be_a_glob_over_nodes_and_links() -> None:
    config = device(id="desk", port="/dev/serial/by-id/usb-ACME*", profile="knob")
    found = node("/dev/ttyUSB3", None, None, "/dev/serial/by-id/usb-ACME_1")
    assert plan([config], [found])[0]["desk"].port == "/dev/ttyUSB3"
    made, (verdict,) = plan([config], [])
    assert not made
    assert verdict.reason == "not plugged in"


def test_of_two_that_fit_the_open_one_stays() -> None:
    config = device(id="desk", match={"product": "Knob"}, profile="knob")
    nodes = [node("/dev/ttyUSB10", "Knob"), node("/dev/ttyUSB9", "Knob")]
    assert plan([config], nodes)[0]["desk"].port == "/dev/ttyUSB9"
    made, verdicts = plan([config], nodes, {"desk": "/dev/ttyUSB10"})
    assert made["desk"].port == "/dev/ttyUSB10"
    assert "fits device desk" in verdicts[-1].reason


def test_without_a_profile_the_board_decides() -> None:
    config = device(id="desk", port="/dev/ttyACM0", serial={"debounce_ms": 5})
    made, _ = plan([config], [node("/dev/ttyACM0", "Talk")])
    assert spoken(made["desk"]).press == "P"
    assert spoken(made["desk"]).debounce_ms == 5
    made, (verdict,) = plan([config], [node("/dev/ttyACM0", "Other")])
    assert not made
    assert "name a 'profile'" in verdict.reason


def test_a_press_mode_that_the_found_board_cannot_serve_is_said() -> None:
    config = device(id="desk", port="/dev/ttyACM0", press_mode="state")
    made, (verdict,) = plan([config], [node("/dev/ttyACM0", "Talk")])
    assert not made
    assert "says its state" in verdict.reason


def test_a_serial_section_that_says_enough_needs_no_profile() -> None:
    config = device(id="desk", match={"product": "Talk"}, serial={"toggle": {"hex": "01"}})
    made, _ = plan([config], [node("/dev/ttyACM0", "Talk")])
    assert made["desk"].profile_id is None
    assert spoken(made["desk"]).press is None


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"id": "Desk", "port": "/x"}, "lower case"),
        ({"id": "a b", "port": "/x"}, "1 to 64"),
        ({"id": "desk", "port": "/x", "match": {"product": "x"}}, "give one"),
        ({"id": "desk", "port": "ttyUSB0"}, "begins with /"),
        ({"id": "desk", "port": "/dev/tty\0USB0"}, "begins with /"),
        ({"id": "desk", "match": {"vendor_id": "10c4"}, "serial": {"toggle": "T"}}, "which USB-serial chip"),
        ({"id": "desk", "match": {"vendor_id": "10c4"}, "profile": "knob"}, "device desk: .*which USB-serial chip"),
        ({"id": "desk", "port": "/x", "serial": {"toggle": "T"}, "headset": {}}, "two kinds of device"),
        ({"id": "desk", "port": "/x", "profile": "phones", "serial": {"toggle": "T"}}, "'phones' is a headset's"),
        ({"id": "desk", "port": "/x", "headset": {"mute_knd": "momentary"}}, "device desk: headset: .*`mute_knd`"),
        ({"id": "desk"}, "which device it is"),
        ({"id": "desk", "profile": "knob"}, "which device it is"),
        ({"id": "desk", "port": "/x", "profile": "nob"}, "'nob' is unknown; there are talk, phones, knob"),
        ({"id": "desk", "port": "/x", "profile": "knob", "press_mode": "push_to_talk"}, "device desk: .*release"),
        ({"id": "desk", "port": "/x", "serial": {"togle": "x"}}, "device desk: serial: .*`togle`"),
        ({"id": "desk", "port": "/x", "profile": "talk", "serial": {"release": None}}, "belong together"),
    ],
)
def test_a_device_that_can_never_work_is_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        device(**keys)


def test_the_press_mode_for_all_holds_where_the_button_can_do_it_and_nothing_else_is_said() -> None:
    configs = [
        device(id="knob", port="/dev/a", profile="knob"),
        device(id="own", port="/dev/b", profile="talk", press_mode="toggle"),
        device(id="switch", port="/dev/c", serial={"muted": "M", "live": "L"}),
    ]
    made, _ = plan(configs, [node("/dev/ttyACM0", "Talkie", "1")], press_mode=PressMode.PUSH_TO_MUTE)
    assert {device_id: assignment.device.press_mode for device_id, assignment in made.items()} == {
        "knob": PressMode.TOGGLE,
        "own": PressMode.TOGGLE,
        "switch": PressMode.STATE,
        "talk-1": PressMode.PUSH_TO_MUTE,
    }


@pytest.mark.parametrize("for_all", HookSwitch)
def test_a_hook_switch_is_forwarded_where_the_device_says_so_else_where_it_is_said_for_all(for_all: HookSwitch) -> None:
    configs = [
        device(id="own", match={"serial_number": "1"}, hook_switch="forward"),
        device(id="never", match={"serial_number": "2"}, hook_switch="ignore"),
        device(id="silent", match={"serial_number": "3"}),
    ]
    nodes = [node(f"/dev/ttyACM{number}", "Talk", str(number)) for number in range(1, 5)]
    made, _ = plan(configs, nodes, hook_switch=for_all)
    assert {device_id: assignment.device.hook_switch for device_id, assignment in made.items()} == {
        "own": True,
        "never": False,
        "silent": for_all is HookSwitch.FORWARD,
        "talk-4": for_all is HookSwitch.FORWARD,
    }
    assert made["own"].device.press_mode is PressMode.PUSH_TO_TALK


def test_a_second_board_that_fits_the_same_device_is_told_whose_place_is_taken() -> None:
    configs = [device(id="port", port="/dev/other", profile="knob"), device(id="desk", match={"product": "Own*"})]
    nodes = [node("/dev/ttyACM0", "Own board"), node("/dev/ttyACM1", "Own board"), node("/dev/ttyACM2", "Stranger")]
    _, verdicts = plan([*configs], nodes)
    assert [v.reason for v in verdicts if v.node in nodes[1:]] == [
        "fits device desk, which is another one already",
        "no profile recognises it; to use it, give a device its 'port' and a 'profile' or a 'serial' section",
    ]
