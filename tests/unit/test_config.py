"""The configuration file: what is found, what it may say, what a person is told, what the example promises."""

import errno
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
import yaml

from mutebridge import config as configuration
from mutebridge import typed_yaml
from mutebridge.config import Config, ConfigError, ConfigFileError, find_file, load
from mutebridge.core.events import Level, PressMode
from mutebridge.core.hook_switch import HookSwitch

EXAMPLE = Path(__file__).parents[2] / "config/mutebridge.yaml"


@pytest.fixture(autouse=True)
def no_file_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(configuration.FILE_VARIABLE, raising=False)
    monkeypatch.setattr(configuration, "DEFAULT_FILE", tmp_path / "etc/mutebridge.yaml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "f.yaml"


def read(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(file)


def wrong(file: Path, text: str) -> list[str]:
    """Return the lines that a person gets, without the directory."""
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    return [line.removeprefix(f"{file.parent}/") for line in str(caught.value).splitlines()]


# --- which file


def test_without_any_file_it_is_the_defaults() -> None:
    assert find_file() is None
    config = load()
    assert config == Config()
    assert config.broker.host == "localhost"
    assert config.known_devices
    assert config.devices == ()
    assert config.log_level is Level.INFO


def test_the_default_file_is_read_when_it_is_there() -> None:
    configuration.DEFAULT_FILE.parent.mkdir()
    configuration.DEFAULT_FILE.write_text("station: desk")
    assert load().station == "desk"


def test_the_variable_goes_before_the_default_and_the_option_before_both(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    configuration.DEFAULT_FILE.parent.mkdir()
    configuration.DEFAULT_FILE.write_text("station: by-default")
    named = file.with_name("named.yaml")
    named.write_text("station: by-variable")
    monkeypatch.setenv(configuration.FILE_VARIABLE, str(named))
    assert load().station == "by-variable"
    assert read(file, "station: by-option").station == "by-option"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_file_that_is_named_has_to_be_there(by: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(configuration.FILE_VARIABLE, str(file))
    with pytest.raises(ConfigFileError, match=f"^{file}: cannot be read: No such file or directory$") as caught:
        load(file if by == "option" else None)
    assert caught.value.errno == errno.ENOENT


def test_what_is_not_a_regular_file_is_not_read_and_holds_nobody_up(file: Path) -> None:
    os.mkfifo(file)
    for path in (file, file.parent, Path("/dev/zero")):
        with pytest.raises(ConfigFileError, match="is not a regular file"):
            load(path)


def test_a_file_that_fails_while_it_is_read_is_told() -> None:
    with pytest.raises(ConfigFileError, match="cannot be read: Input/output error"):
        load(Path("/proc/self/mem"))


def test_a_path_that_cannot_be_one_is_told(file: Path) -> None:
    with pytest.raises(ConfigFileError, match="cannot be read: Invalid argument"):
        load(Path("with\0nul"))
    file.touch()
    with pytest.raises(ConfigFileError, match="cannot be read: Not a directory"):
        load(file / "below")


def test_a_huge_file_is_not_read_to_its_end(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(10**12)
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        load(file)


# --- what it says


def test_names_are_lower_cased(file: Path) -> None:
    assert read(file, "station: Desk-17").station == "desk-17"


def test_the_station_is_the_short_host_name_unless_it_is_given(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    class Uname:
        nodename = "Desk-17.office.example"

    monkeypatch.setattr(os, "uname", Uname)
    assert load().station == "desk-17"
    assert read(file, "station:\n").station == "desk-17"
    Uname.nodename = "schreibtisch-ü"
    why = "the host name is taken by default, but station 'schreibtisch-ü': 1 to 64 of the letters a-z, digits"
    assert wrong(file, "")[0].startswith(f"f.yaml:1:1: station: {why}")
    with pytest.raises(ConfigError, match=rf"mutebridge.yaml: station: {why}.*: write a configuration file"):
        load()
    assert read(file, "station: desk").station == "desk"


def test_a_whole_configuration(file: Path) -> None:
    config = read(
        file,
        """
        station: 17
        prefix: calls/mute
        log_level: debug
        press_mode: push_to_talk
        hook_switch: forward
        known_devices: no
        broker:
          host: mqtt.example
          username: desk
          password: 0012
          protocol: 5
          tls: {}
        devices:
        - id: desk
          port: /dev/ttyUSB0
          press_mode: state
          hook_switch: ignore
          serial: {muted: 0, live: 1, baud: 9600}
        """,
    )
    assert config.station == "17"
    assert config.prefix == "calls/mute"
    assert config.log_level is Level.DEBUG
    assert config.press_mode is PressMode.PUSH_TO_TALK
    assert config.hook_switch is HookSwitch.FORWARD
    assert not config.known_devices
    assert (config.broker.password, config.broker.protocol) == ("0012", "5")
    assert config.broker.tls is not None
    (desk,) = config.devices
    assert desk.press_mode is PressMode.STATE
    assert desk.hook_switch is HookSwitch.IGNORE
    assert desk.serial == {"muted": "0", "live": "1", "baud": 9600}


# --- what is wrong with it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("station: 'a/b'", "f.yaml:1:10: station: station 'a/b': 1 to 64 of the letters a-z, digits"),
        ("prefix: a/#", "f.yaml:1:9: prefix: prefix 'a/#': levels separated by single slashes"),
        ("log_level: loud", "f.yaml:1:12: log_level: unknown value 'loud'. Known: error, warning, info, debug"),
        ("brokr: {}", "f.yaml:1:1: brokr: unknown key 'brokr': did you mean 'broker'? Known: station, prefix, "),
        ("broker:\n  port: 0", "f.yaml:2:9: broker.port: '0' is given, but a whole number >= 1 is expected"),
        ("broker:\n  protocol: 4", "f.yaml:2:13: broker.protocol: unknown value '4'. Known: auto, 5, 3.1.1"),
        ("broker:\n  host: mqtt.example", "f.yaml:2:9: broker.host: host 'mqtt.example' is another machine and tls"),
        ("broker:\n  username: u\n  password: '***'", "f.yaml:3:13: broker.password: *** only stands for a password"),
        ("devices:\n- name: x", "f.yaml:2:3: devices[0]: 'id' is missing: a text is expected"),
        ("devices:\n- id: x", "f.yaml:2:3: devices[0]: device x: nothing says which device it is"),
        ("devices:\n- id: x\n  port: ttyUSB0", "f.yaml:3:9: devices[0].port: port 'ttyUSB0': a path that begins"),
        ("devices:\n- id: x\n  profile: lnes", "f.yaml:3:12: devices[0].profile: device x: profile 'lnes' is unknown"),
        (
            "devices:\n- {id: x, port: /dev/a, profile: lines}\n- id: x\n  port: /dev/b\n  profile: lines",
            "f.yaml:3:7: devices[1].id: 'x' is the id of devices[0] already",
        ),
        (
            "devices:\n- id: x\n  port: /dev/a\n  serial:\n    bud: 9600",
            "f.yaml:5:5: devices[0].serial.bud: unknown key 'bud': did you mean 'baud'? Known: framing, press, ",
        ),
        (
            "devices:\n- id: x\n  port: /dev/a\n  serial:\n    press: p",
            "f.yaml:5:5: devices[0].serial: device x: serial: ",
        ),
    ],
)
def test_an_error_says_where_what_and_what_is_allowed(file: Path, text: str, expected: str) -> None:
    (line,) = wrong(file, text)
    assert line.startswith(expected)


def test_what_is_wrong_with_several_devices_is_told_at_once(file: Path) -> None:
    lines = wrong(file, "devices:\n- id: a\n- id: b\n- {id: a, port: /dev/a, profile: lines}\n")
    assert [line.split(": ")[1] for line in lines] == ["devices[0]", "devices[1]", "devices[2].id"]


def test_problems_can_be_read_by_a_program(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(file, "broker:\n  prt: 1")
    (problem,) = json.loads(configuration.problems_json(caught.value))["problems"]
    message = problem.pop("message")
    assert problem == {"file": str(file), "line": 2, "column": 3, "key": "broker.prt"}
    assert message.startswith("unknown key 'prt': did you mean 'port'?")


# --- what `check` prints


@pytest.mark.parametrize("form", [configuration.effective_yaml, configuration.effective_json])
@pytest.mark.parametrize("text", ["", "example", "all examples"])
def test_what_is_printed_loads_to_the_same(file: Path, form: Any, text: str) -> None:
    texts = {"example": EXAMPLE.read_text(), "all examples": with_examples(EXAMPLE.read_text())}
    config = read(file, texts.get(text, text))
    assert read(file, form(config)) == config


def test_a_password_is_masked_and_the_mask_is_no_password(file: Path) -> None:
    config = read(file, "broker: {username: u, password: tell-nobody, password_file: null}")
    for printed in (configuration.effective_yaml(config), configuration.effective_json(config), repr(config)):
        assert "tell-nobody" not in printed
    assert "password: '***'" in configuration.effective_yaml(config)
    (line,) = wrong(file, configuration.effective_yaml(config))
    assert "*** only stands for a password" in line


# --- the example


def with_examples(text: str, only: int | None = None) -> str:
    """Take the # away from the blocks of example lines, or from one of them."""
    numbers = iter(range(10**6))

    def uncommented(block: re.Match[str]) -> str:
        number = next(numbers)
        return re.sub(r"(?m)^#", "", block[0]) if only in (None, number) else block[0]

    return _BLOCK.sub(uncommented, text)


# `# prose` has one blank; an example line has none, or at least two.
_BLOCK = re.compile(r"(?m)(?:^#(?! \S|\s*$).*\n)+")
_BLOCKS = len(_BLOCK.findall(EXAMPLE.read_text()))


def test_the_example_is_the_defaults() -> None:
    assert load(EXAMPLE) == load()


@pytest.mark.parametrize("number", [*range(_BLOCKS), None])
def test_every_example_in_the_example_works(file: Path, number: int | None) -> None:
    config = read(file, with_examples(EXAMPLE.read_text(), number))
    assert len(config.devices) == (_BLOCKS if number is None else 1)


def test_every_example_line_is_in_a_block_that_is_tried() -> None:
    assert _BLOCKS >= 5
    commented = with_examples(EXAMPLE.read_text())
    assert not re.search(r"(?m)^#(?! \S|$)", commented)


def structs_of(kind: Any, value: Any) -> Iterator[tuple[type[msgspec.Struct], set[str]]]:
    """Every struct that `value`, as YAML has it, stands for, with the keys that it gives."""
    whole = typed_yaml._part_of(kind)
    for option in [whole] if whole is not None else typed_yaml._options(kind):
        if typed_yaml._is_struct(option) and isinstance(value, dict):
            fields = typed_yaml._fields(option)
            yield option, set(value)
            for key, inner in value.items():
                yield from structs_of(fields[key].type, inner)
        elif get_origin(option) in (list, tuple) and isinstance(value, list):
            for inner in value:
                yield from structs_of(get_args(option)[0], inner)


def known_structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    whole = typed_yaml._part_of(kind)
    for option in [whole] if whole is not None else typed_yaml._options(kind):
        if typed_yaml._is_struct(option):
            yield option
            for field in typed_yaml._fields(option).values():
                yield from known_structs(field.type)
        elif get_origin(option) in (list, tuple):
            yield from known_structs(get_args(option)[0])


def test_the_example_explains_every_key() -> None:
    shown: dict[type[msgspec.Struct], set[str]] = defaultdict(set)
    text = with_examples(EXAMPLE.read_text()).replace(
        "tls: null", "tls: {ca_file: null, cert_file: null, key_file: null}"
    )
    for kind, keys in structs_of(Config, yaml.load(text, yaml.BaseLoader)):
        shown[kind] |= keys
    for kind in known_structs(Config):
        assert shown[kind] == set(typed_yaml._fields(kind)), kind


def test_beside_every_key_of_the_example_is_what_it_means() -> None:
    lines = EXAMPLE.read_text().splitlines()
    top = lines[: lines.index("devices:") + 1]
    for above, line in pairwise(top):
        assert not re.match(r"\s*\w+:", line) or re.match(r"\s*#", above) or "#" in line, line


# --- the profiles


def test_the_shipped_profiles_are_all_there() -> None:
    profiles = configuration.load_profiles()
    ids = [profile.id for profile in profiles]
    assert "lines" in ids
    assert len(set(ids)) == len(ids)
    files = list(Path(configuration.__file__).with_name("devices").glob("*.yaml"))
    assert len(files) >= 5
    assert {yaml_id for path in files for yaml_id in yaml.safe_load(path.read_text())} == set(ids)
    assert configuration.load_profiles() is profiles


def test_a_wrong_profile_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(configuration, "_PROFILES", tmp_path)
    for text, expected in (
        ("a:\n  nme: x", "x.yaml:2:3: a.nme: unknown key 'nme': did you mean 'name'?"),
        ("a:\n  name: x", "x.yaml: a: Object missing required field `source`"),
        ("Ä: {}", "x.yaml: 'Ä': a profile id has 1 to 64 of"),
    ):
        (tmp_path / "x.yaml").write_text(text)
        configuration.load_profiles.cache_clear()
        with pytest.raises(ConfigError) as caught:
            configuration.load_profiles()
        assert str(caught.value).startswith(expected)
    configuration.load_profiles.cache_clear()
