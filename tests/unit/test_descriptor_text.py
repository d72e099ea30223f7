"""A report descriptor in the forms in which people have one, and what they are told of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_cli import DEADLINE_S, environment, mutebridge_

from mutebridge.core.descriptor_explanation import explain
from mutebridge.core.descriptor_text import (
    MAX_CONTENT_BYTES,
    MAX_DESCRIPTORS,
    DescriptorTextError,
    FoundDescriptor,
    find_descriptors,
)
from mutebridge.core.report_descriptor import MAX_DESCRIPTOR_BYTES, parse
from mutebridge.core.telephony import Telephony
from mutebridge.virtual_headset import MAINTAINED, descriptor

OURS = descriptor()
OTHER = descriptor(MAINTAINED)
PLAIN_HEX = OURS.hex()
SPACED = OURS.hex(" ")
C_ARRAY = "{" + "".join(f"\n  0x{byte:02X}, // byte {at}, see /* page */ 0xZZ" for at, byte in enumerate(OURS))


TOO_LONG_DUMP = "".join(f"{at:08x}: {'0b05 ' * 8}\n" for at in range(0, MAX_DESCRIPTOR_BYTES + 16, 16))
ESCAPED = "".join(f"\\x{byte:02x}" for byte in OURS)
ARRAY = ", ".join(f"0x{byte:02X}" for byte in OURS)


def hid_recorder(data: bytes, name: str = "Example Headset ü", ids: str = "3 046D 0a37", number: int = 0) -> str:
    return (
        f"# EXAMPLE\n# 0x05, 0x0b, // Usage Page\nD: {number}\nR: {len(data)} {data.hex(' ')}\n"
        f"N: {name}\nP: usb-1/input3\nI: {ids}\nD: {number}\nE: 000000.000000 2 02 01\n"
    )


def usbhid_dump(data: bytes, interface: str = "001:002:003") -> str:
    rows = "".join(f" {data[at : at + 16].hex(' ').upper()}\n" for at in range(0, len(data), 16))
    stream = f"{interface}:STREAM     1372692416.1\n 02 01\n 02 00\n"
    return f"{interface}:DESCRIPTOR         1372692415.123456\n{rows}\n{stream}"


@pytest.mark.parametrize(
    "content",
    [
        OURS,
        PLAIN_HEX.encode(),
        b"\xef\xbb\xbf" + SPACED.encode(),
        SPACED.upper().replace(" ", ", ").encode(),
        OURS.hex("\n").encode(),
        (C_ARRAY + "};\n").encode(),
        ("# as dumped\n" + "".join(f"0x{byte:x}\r\n" for byte in OURS)).encode(),
        OURS.hex(":").encode(),
        OURS.hex("-").encode(),
        f'"{ESCAPED}"'.encode(),
        f"rdesc = (\n  b'{ESCAPED[:16]}'  # first\n  b'{ESCAPED[16:]}'\n)".encode(),
        f"static const uint8_t rdesc[{len(OURS)}] = {{ {ARRAY} }};\nunsigned int rdesc_len = {len(OURS)};".encode(),
        f"rdesc = [{ARRAY}]\n".encode(),
        f"Report Descriptor: ({len(OURS)} bytes)\n{ARRAY},\n".encode(),
        f"{SPACED}\n\n  INPUT(2)[INPUT]\n    Field(0)\n      Application(Telephony.0005)\n".encode(),
    ],
    ids=[
        *["binary", "hex", "blanks", "commas", "lines", "c", "0x", "colons", "dashes", "escaped", "python", "c array"],
        *["python array", "hidapi", "debugfs"],
    ],
)
def test_one_descriptor_in_many_forms(content: bytes) -> None:
    assert find_descriptors(content) == (FoundDescriptor(descriptor=OURS),)


@pytest.mark.parametrize("data", [OURS, OURS[:-1], b"\x05\x0b\xc0ab", OURS[:16]], ids=["odd", "even", "letters", "row"])
@pytest.mark.parametrize(
    "command",
    [
        "hexdump",
        "hexdump -C",
        "xxd",
        "xxd -p",
        "xxd -i",
        "od -tx1",
        "od -Ax -tx1z",
        "od -Ad -tx1",
        "od -x",
        "od -An -tx1",
    ],
)
def test_what_the_usual_tools_dump(command: str, data: bytes, tmp_path: Path) -> None:
    program, *options = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    path = tmp_path / "report_descriptor"
    path.write_bytes(data)
    dumped = subprocess.run([program, *options, path], check=True, stdout=subprocess.PIPE).stdout
    assert find_descriptors(dumped) == (FoundDescriptor(descriptor=data),)


def test_each_array_of_a_program_is_one() -> None:
    program = f"const __u8 a[] = {{ {ARRAY} }}; /* {{}} */\nconst __u8 b[] = {{ {ARRAY},\n 0xC0 }};\n"
    assert [found.descriptor for found in find_descriptors(program.encode())] == [OURS, OURS + b"\xc0"]


def test_messages_among_what_usbhid_dump_prints_are_passed_over() -> None:
    dump = usbhid_dump(OURS).replace("\n\n", "\nStarting dumping interrupt transfer stream\nwith 1 minute timeout.\n\n")
    assert [found.descriptor for found in find_descriptors(dump.encode())] == [OURS]


def test_hid_recorder_tells_which_device_it_is() -> None:
    recorded = (hid_recorder(OURS) + hid_recorder(OTHER, "B", "3 0b0e 24C9", 1)).encode()
    assert find_descriptors(recorded) == (
        FoundDescriptor(descriptor=OURS, name="Example Headset ü", vendor_id="046d", product_id="0a37"),
        FoundDescriptor(descriptor=OTHER, name="B", vendor_id="0b0e", product_id="24c9"),
    )
    assert find_descriptors(b"I: odd\r\nR: 1 c0\r\n") == (FoundDescriptor(descriptor=b"\xc0"),)


def test_usbhid_dump_has_one_for_each_interface() -> None:
    dump = (usbhid_dump(OURS) + usbhid_dump(OTHER, "001:002:004")).encode()
    assert find_descriptors(dump) == (
        FoundDescriptor(descriptor=OURS, name="interface 001:002:003"),
        FoundDescriptor(descriptor=OTHER, name="interface 001:002:004"),
    )


@pytest.mark.parametrize(
    ("content", "offset", "problem"),
    [
        (b"", 0, "there is nothing"),
        (b" \n", 0, "there is nothing"),
        (b"# only this\n", 0, "there are only comments"),
        (b"05 0b 9z", 7, "'z' is not hexadecimal"),
        (b"05 0b zz", 6, "'zz' is not hexadecimal"),
        (b"05 /* 0b\n */ 0b0", 13, "'0b0' has 3 digits: a byte has two"),
        (TOO_LONG_DUMP.encode(), TOO_LONG_DUMP.rindex("\n", 0, -1) + 1, "at most 4096 bytes"),
        (b"05 0b " * (MAX_DESCRIPTOR_BYTES // 2) + b"c0", 6 * MAX_DESCRIPTOR_BYTES // 2, "at most 4096 bytes"),
        (b"0" * (MAX_CONTENT_BYTES + 1), MAX_CONTENT_BYTES, "more than"),
        (b"N: a\nR: x 05 0b\n", 7, "after 'R:' the number of bytes is expected, in decimal"),
        (b"N: a\nR: 3 05 0b\n", 8, "3 bytes are announced, and 2 follow"),
        (b"N: a\nR: 2 05 g0\n", 13, "'g0' is not hexadecimal"),
        (b"\n001:002:000:DESCRIPTOR 1\n\n", 1, "no bytes follow this line"),
        (b"001:002:000:STREAM 1\n 02 01\n", 0, "a dump without a DESCRIPTOR"),
        (b"00000000  05 0b\n00000010  09 05\n", 16, "the offset is not 2"),
        (b"00000000  05 0b\n*\n00000010\n", 16, "-v prints them all"),
        (b"00000000: 050b\n05 0b\n", 15, "an offset is expected"),
        (b"x = [0x05, 0x0b, y]", 17, "'y' is not hexadecimal"),
    ],
)
def test_what_is_broken_is_told_with_its_byte(content: bytes, offset: int, problem: str) -> None:
    with pytest.raises(DescriptorTextError) as told:
        find_descriptors(content)
    assert told.value.offset == offset
    assert problem in str(told.value)
    assert str(told.value).startswith(f"byte {offset}: ")


def test_there_is_a_bound_to_how_many_are_taken() -> None:
    assert len(find_descriptors(b"R: 1 c0\n" * (MAX_DESCRIPTORS + 5))) == MAX_DESCRIPTORS


@given(st.one_of(st.binary(max_size=300), st.text("0123456789abcdefRNID: \n,x/*#\0", max_size=300).map(str.encode)))
def test_any_content_gives_bytes_or_the_one_error(content: bytes) -> None:
    try:
        found = find_descriptors(content)
    except DescriptorTextError:
        return
    assert found


@pytest.mark.parametrize("piece", [" ", "\n", "/*", "(", "{0x1,", "x.", "w ", "0x", "R:\n", "\n001:002:003:A", "# \r"])
def test_time_grows_with_the_content_and_no_faster(piece: str) -> None:
    """A few tenths of a second; what grows with the square would take hours."""
    content = piece.encode() * (MAX_CONTENT_BYTES // len(piece) - 1) + b"g"
    with pytest.raises(DescriptorTextError):
        find_descriptors(content)


# --- what is told of it


def test_the_explanation_says_what_was_found_and_why() -> None:
    parsed = parse(OURS)
    told = explain(parsed, Telephony.from_descriptor(parsed), ["example"]).splitlines()
    assert told[0] == (
        "It has a mute button, a toggle button, with mute LED."
        " It can: mute button, hook switch, off-hook LED, ring LED, hold LED, mute LED."
    )
    assert told[1] == "profiles: example"
    assert "mute button:  Phone Mute (0x0B:0x2F) is in input report 2, bit 1; Relative: toggle button" in told
    assert "mute led:     LED Mute (0x08:0x09) is in output report 2, bit 1" in told
    rows = [" ".join(line.split()) for line in told]
    assert "18 input 2 0 1 1 0..1 No Preferred Hook Switch (0x0B:0x20)" in rows
    assert "22 input 2 1 1 1 0..1 Relative Phone Mute (0x0B:0x2F)" in rows


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ("050809090508a1010909150025017501950191 02c0", "It has a mute LED, but no mute button. It can: mute LED."),
        ("050b0905a101092f150025017501950181 06c0", "It has a mute button, a toggle button, but no mute LED. It can: "),
        ("050b0905a1010920150025017501950181 22c0", "It has nothing that a mute button needs. It can: hook switch."),
        ("050b0905a101c0", "It has nothing that a mute button needs."),
    ],
)
def test_the_verdict(content: str, verdict: str) -> None:
    parsed = parse(bytes.fromhex(content))
    assert explain(parsed, Telephony.from_descriptor(parsed)).startswith(verdict)


def test_the_explanation_is_bounded() -> None:
    many = bytes.fromhex("050b 7501 9501" + "09 20 81 02" * 600)
    few = bytes.fromhex("050b 7501 9508" + "09 20" * 9 + "19 30 29 32" + "81 02")
    parsed = parse(many)
    assert explain(parsed, Telephony.from_descriptor(parsed)).endswith("\n  and 200 more\n")
    parsed = parse(few)
    assert explain(parsed, Telephony.from_descriptor(parsed)).endswith(" and 6 more\n")
    ranged = parse(bytes.fromhex("050b 7501 9503 19 30 29 32 81 02"))
    assert explain(ranged, Telephony.from_descriptor(ranged)).endswith("0x0B:0x30 to 0x0B:0x32\n")


# --- the command


def devices(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mutebridge", "devices", *arguments],
        env=environment(),
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_json_is_of_the_promised_form_from_file_hex_and_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "report_descriptor"
    file.write_bytes(OURS)
    by_file = devices("--json", "--descriptor", str(file))
    by_hex = devices("--json", "--descriptor", SPACED)
    by_pipe = devices("--json", "--descriptor", "-", stdin=usbhid_dump(OURS).encode())
    assert by_file.stdout == by_hex.stdout == by_pipe.stdout
    assert (by_file.returncode, by_file.stderr) == (os.EX_OK, b"")
    told = json.loads(by_file.stdout)
    assert told["mute_button"] == {"report_id": 2, "bit": 1, "kind": "toggle_button"}
    assert told["hook_switch"] == {"report_id": 2, "bit": 0, "kind": "toggle_switch"}
    assert told["reject"] is None
    assert told["leds"] == {
        "off_hook": {"report_id": 2, "bit": 0},
        "mute": {"report_id": 2, "bit": 1},
        "ring": {"report_id": 2, "bit": 2},
        "hold": {"report_id": 2, "bit": 3},
    }


def test_profiles_apply_by_the_ids_that_are_given_or_recorded(tmp_path: Path) -> None:
    consumer = bytes.fromhex("050c 0901 a101 15002501 7501 9501 09e2 8106 c0")
    assert json.loads(devices("--json", "--descriptor", consumer.hex()).stdout)["mute_button"] is None
    given_ids = devices("--json", "--descriptor", consumer.hex(), "--vendor-product", "046D:0a37")
    assert json.loads(given_ids.stdout)["mute_button"]["kind"] == "toggle_button"
    file = tmp_path / "recorded.hid"
    file.write_text(hid_recorder(consumer, "Headset") + hid_recorder(OURS, "Other", "3 1234 5678", 1))
    first, second = mutebridge_("devices", "--descriptor", file).stdout.split("\n\nOther")
    assert first.startswith(f"Headset (046d:0a37): a report descriptor of {len(consumer)} bytes\nIt has a mute button")
    assert "profiles: logitech_h540" in first
    assert "profiles: none is known for it" in second


def test_a_path_in_sys_tells_whose_descriptor_it_is(tmp_path: Path) -> None:
    consumer = bytes.fromhex("050c0901a101150025010a e2 00 75019501 8106 c0".replace(" ", ""))
    device = tmp_path / "1-2:1.3" / "0003:046D:0A37.0007"
    device.mkdir(parents=True)
    (device / "report_descriptor").write_bytes(consumer)
    (tmp_path / "device").symlink_to(device)
    said = devices("--json", "--descriptor", str(tmp_path / "device" / "report_descriptor")).stdout
    assert json.loads(said)["profiles"] == ["logitech_h540"]
    assert json.loads(said)["mute_button"] == {"report_id": 0, "bit": 0, "kind": "toggle_button"}
    other = devices("--json", "--descriptor", str(device / "report_descriptor"), "--vendor-product", "0b0e:1234").stdout
    assert json.loads(other)["profiles"] == ["jabra"]


@pytest.mark.parametrize(
    "name", ["046d_0a37.bin", "logitech_usb-headset-h540_046D_0A37.hex", "046d-0a37", "x046d_0a37.bin"]
)
def test_a_file_may_be_called_after_its_device(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(OURS)
    said = json.loads(devices("--json", "--descriptor", str(file)).stdout)
    assert said["profiles"] == ([] if name.startswith("x") else ["logitech_h540"])


def test_a_device_that_is_read_by_its_bytes_is_told_to_be() -> None:
    vendor = bytes.fromhex("0600ff 0901 a101 1500 26ff00 7508 9508 0901 8102 c0".replace(" ", ""))
    told = devices("--descriptor", vendor.hex(":"), "--vendor-product", "16c0:27db").stdout.decode()
    assert "None of this counts: muteme is read by the bytes in the profile muteme." in told
    said = json.loads(devices("--json", "--descriptor", vendor.hex(), "--vendor-product", "16c0:27db").stdout)
    assert (said["mute_button"], said["read_by_bytes"]) == (None, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--descriptor", "05 0b 09"], os.EX_DATAERR, "05 0b 09: byte 2 of the report descriptor: the item 0x09 needs"),
        (["--descriptor", "-"], os.EX_DATAERR, "standard input: byte 0: there is nothing"),
        (["--descriptor", "/nowhere/x"], os.EX_NOINPUT, "'/nowhere/x' cannot be read, and is not hexadecimal: No such"),
        (["--descriptor", "c0", "--vendor-product", "46d"], os.EX_USAGE, "'46d': two times four hexadecimal digits"),
    ],
)
def test_what_is_wrong_is_told_with_its_exit_status(arguments: list[str], status: int, said: str) -> None:
    done = devices(*arguments)
    assert (done.returncode, done.stdout) == (status, b"")
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
