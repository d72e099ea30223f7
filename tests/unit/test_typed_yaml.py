"""What a YAML text becomes, and what a person is told about one that is wrong."""

import enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml

from mutebridge import typed_yaml
from mutebridge.typed_yaml import ConfigError, Reading


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Hex(msgspec.Struct, frozen=True):
    hex: str


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1883
    host: Annotated[str, msgspec.Meta(min_length=1)] = "localhost"
    words: tuple[str | Hex, ...] | str | None = None
    wait_s: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if self.host == "nowhere":
            raise ValueError("host 'nowhere': it does not exist")
        if self.host == "both" and self.words:
            raise ValueError("'words' cannot go with this host")
        if self.host == "bad":
            raise ValueError("that cannot be")


class Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    only: str | None = None


class Nest(msgspec.Struct, frozen=True):
    inner: "list[Nest]" = []


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    text: str = "t"
    maybe: str | None = None
    on: bool = False
    colour: Colour = Colour.RED
    version: Literal["auto", "5", "3.1.1"] = "auto"
    either: int | str = 0
    inner: Inner = Inner()
    tls: Inner | None = None
    items: list[Named] = []
    over: Annotated[dict[str, Any], msgspec.Meta(extra={"part_of": Inner})] | None = None
    by_name: dict[str, int] = {}
    by_colour: dict[Colour, int] = {}
    whatever: dict[str, Any] | None = None


def read(text: str | bytes) -> Outer:
    return Reading("f.yaml", text if isinstance(text, bytes) else text.encode()).read(Outer)


def wrong(text: str | bytes) -> list[str]:
    """Return the lines that a person gets."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).splitlines()


# --- what it becomes


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null", "{}", "\ufeff# bom\n"])
def test_nothing_means_the_defaults(text: str) -> None:
    assert read(text) == Outer()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text: on", Outer(text="on")),
        ("text: 0012", Outer(text="0012")),
        ("text: 3.10", Outer(text="3.10")),
        ("text: 2024-01-01", Outer(text="2024-01-01")),
        ("text: 'null'", Outer(text="null")),
        ("maybe: null", Outer(maybe=None)),
        ("maybe:", Outer(maybe=None)),
        ("text:\non: ~\ncolour: null\neither: Null\n", Outer()),
        ("inner:\n  port:\n", Outer()),
        ("maybe: ''", Outer(maybe="")),
        ("version: 5", Outer(version="5")),
        ("version: 3.1.1", Outer(version="3.1.1")),
        ("colour: green", Outer(colour=Colour.GREEN)),
        ("on: on", Outer(on=True)),
        ("on: Yes", Outer(on=True)),
        ("on: off", Outer(on=False)),
        ("either: 5", Outer(either=5)),
        ("either: '5'", Outer(either="5")),
        ("either: five", Outer(either="five")),
        ("either: 0x1F", Outer(either=31)),
        ("either: -3", Outer(either=-3)),
        ("either: 010", Outer(either="010")),
        ("inner: {port: 1}", Outer(inner=Inner(port=1))),
        ("inner:", Outer()),
        ("inner: {wait_s: 2}", Outer(inner=Inner(wait_s=2.0))),
        ("inner: {wait_s: 1e3}", Outer(inner=Inner(wait_s=1000.0))),
        ("inner: {words: 1}", Outer(inner=Inner(words="1"))),
        ("inner: {words: [1, {hex: 01}]}", Outer(inner=Inner(words=("1", Hex("01"))))),
        ("tls:", Outer(tls=None)),
        ("tls: {}", Outer(tls=Inner())),
        ("items:", Outer(items=[])),
        ("items: [{name: a}, {name: b, only: x}]", Outer(items=[Named(name="a"), Named(name="b", only="x")])),
        ("by_name: {a: 1}", Outer(by_name={"a": 1})),
        ("by_colour: {red: 1}", Outer(by_colour={Colour.RED: 1})),
        (
            "whatever: {a: 5, b: true, c: on, d: '5', e: [1.5, null, x], f: {g: 0x10}, 1: }",
            Outer(whatever={"a": 5, "b": True, "c": "on", "d": "5", "e": [1.5, None, "x"], "f": {"g": 16}, "1": None}),
        ),
        ("text: &t hello\nmaybe: *t", Outer(text="hello", maybe="hello")),
        ("over: {port: 1, words: null, host: on}", Outer(over={"port": 1, "words": None, "host": "on"})),
        ("over: {words: [a, {hex: 01}]}", Outer(over={"words": ("a", {"hex": "01"})})),
        ("over: {host: nowhere}", Outer(over={"host": "nowhere"})),  # laid over something: judged as a whole later
        ("over:", Outer(over=None)),
    ],
)
def test_the_wanted_type_decides_what_a_word_means(text: str, expected: Outer) -> None:
    assert read(text) == expected


# --- what is wrong with it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("txt: a", "f.yaml:1:1: txt: unknown key 'txt': did you mean 'text'? Known: text, maybe, on, "),
        ("zzzzz: a", "f.yaml:1:1: zzzzz: unknown key 'zzzzz'. Known: text, "),
        ("inner:\n  prot: 1", "f.yaml:2:3: inner.prot: unknown key 'prot': did you mean 'port'? Known: port, host, "),
        ("over: {prt: 1}", "f.yaml:1:8: over.prt: unknown key 'prt': did you mean 'port'? Known: port, host, "),
        ("over: {port: x}", "f.yaml:1:14: over.port: 'x' is given, but a whole number is expected"),
        ("over: {port: 0}", "f.yaml:1:14: over.port: '0' is given, but a whole number >= 1 is expected"),
        ("over: 5", "f.yaml:1:7: over: '5' is given, but keys and values or null is expected"),
        ("colour: gren", "f.yaml:1:9: colour: unknown value 'gren': did you mean 'green'? Known: red, green"),
        ("version: 4", "f.yaml:1:10: version: unknown value '4'. Known: auto, 5, 3.1.1"),
        ("on: 1", "f.yaml:1:5: on: '1' is given, but true or false is expected"),
        ("on: 'true'", "f.yaml:1:5: on: 'true' is given, but true or false is expected; leave the quotes away"),
        ("inner: {port: 70000}", "f.yaml:1:15: inner.port: '70000' is given, but a whole number <= 65535 is expected"),
        ("inner: {port: '1'}", "f.yaml:1:15: inner.port: '1' is given, but a whole number is expected; leave the"),
        ("inner: {port: 010}", "f.yaml:1:15: inner.port: '010' is given, but a whole number is expected"),
        ("inner: {port: 1_000}", "f.yaml:1:15: inner.port: '1_000' is given, but a whole number is expected"),
        ("inner: {port: 1.0}", "f.yaml:1:15: inner.port: '1.0' is given, but a whole number is expected"),
        (f"inner: {{port: {'9' * 9999}}}", "f.yaml:1:15: inner.port: '9999"),
        ("inner: {wait_s: 0}", "f.yaml:1:17: inner.wait_s: '0' is given, but a number > 0"),
        ("inner: {wait_s: .inf}", "f.yaml:1:17: inner.wait_s: '.inf' is given, but a number or null is expected"),
        ("inner: {wait_s: 1e999}", "f.yaml:1:17: inner.wait_s: '1e999' is given, but a number or null is expected"),
        ("inner: {host: ''}", "f.yaml:1:15: inner.host: '' is given, but a text of length >= 1 is expected"),
        ("items: [{name:\n}]", "f.yaml:2:1: items[0].name: the value is missing: a text is expected"),
        ("text: [a]", "f.yaml:1:7: text: a list is given, but a text is expected"),
        ("text: {a: b}", "f.yaml:1:7: text: keys and values are given, but a text is expected"),
        ("inner: 5", "f.yaml:1:8: inner: '5' is given, but keys and values (port, host, words, wait_s) is expected"),
        ("items: {name: a}", "f.yaml:1:8: items: keys and values are given, but a list is expected"),
        ("items: [{}]", "f.yaml:1:9: items[0]: 'name' is missing: a text is expected"),
        ("items: [null]", "f.yaml:1:9: items[0]: the value is missing: keys and values (name, only) is expected"),
        ("- a", "f.yaml:1:1: a list is given, but keys and values (text, maybe, "),
        ("just words", "f.yaml:1:1: 'just words' is given, but keys and values (text, maybe, "),
        ("text: a\ntext: b", "f.yaml:2:1: text: is given a second time; the first is on line 1"),
        ("by_name: {a: 1, a: 2}", "f.yaml:1:17: by_name.a: is given a second time; the first is on line 1"),
        ("by_colour: {rd: 1}", "f.yaml:1:13: by_colour.rd: unknown key 'rd': did you mean 'red'? Known: red, green"),
        ("by_name: {a: x}", "f.yaml:1:14: by_name.a: 'x' is given, but a whole number is expected"),
        ("whatever: {a: 1, a: 2}", "f.yaml:1:18: whatever.a: is given a second time; the first is on line 1"),
        ("whatever: 5", "f.yaml:1:11: whatever: '5' is given, but keys and values or null is expected"),
        ("? [a]\n: b", "f.yaml:1:3: a key is one word"),
        ("<<: {text: a}", "f.yaml:1:1: '<<': unknown key '<<'. Known: "),
        ("text: !!int 5", "f.yaml:1:7: text: the tag !!int is not used here: give a text"),
        ("text: !!python/object:os.system x", "f.yaml:1:7: text: the tag !!python/object:os.system is not used here"),
        # a struct's own judgement, at the key with which it begins
        ("inner:\n  host: nowhere", "f.yaml:2:9: inner.host: host 'nowhere': it does not exist"),
        ("inner:\n  host: both\n  words: [a]", "f.yaml:3:10: inner.words: 'words' cannot go with this host"),
        ("inner:\n  host: bad", "f.yaml:2:3: inner: that cannot be"),
        # no YAML
        ("text: a: b", "f.yaml:1:8: not YAML: mapping values are not allowed in this context: put a text that holds"),
        ("inner:\n\tport: 1", "f.yaml:2:1: not YAML: while scanning for the next token, found character that cannot"),
        ("text: *nope", "f.yaml:1:7: not YAML: found undefined alias: put a text that begins with '*' in quotes"),
        ("text: [a", "f.yaml:2:1: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("text: a\n---\ntext: b", "f.yaml:2:1: a second document begins here: one file holds one document"),
        ("text: a\ninner: {host: '\x07'}", "f.yaml:2:16: the character U+0007 is not allowed in YAML"),
        (b"text: a\nmaybe: b\xe4h", "f.yaml:2:9: byte 0xe4 is not UTF-8: save the file as UTF-8"),
        ("text: a".encode("utf-16"), "f.yaml:1:1: byte 0xff is not UTF-8: save the file as UTF-8"),
        (b"#" * 300_000, "f.yaml: larger than 256 KiB"),
    ],
)
def test_an_error_says_where_what_and_what_is_allowed(text: str | bytes, expected: str) -> None:
    (line,) = wrong(text)
    assert line.startswith(expected)


def test_the_hint_about_tabs() -> None:
    assert wrong("inner:\n\tport: 1")[0].endswith(": indent with blanks, not with tabs")


def test_all_that_is_wrong_is_told_in_the_order_of_the_lines() -> None:
    lines = wrong("items:\n- only: 5\n  nme: x\ncolour: blue\ninner:\n  port: x\n  host: nowhere\ntext: a\ntext: b\n")
    assert [line.split(": ")[0] for line in lines] == [
        "f.yaml:2:3",
        "f.yaml:3:3",
        "f.yaml:4:9",
        "f.yaml:6:9",
        "f.yaml:9:1",
    ]


def test_a_flood_of_errors_is_cut() -> None:
    assert len(wrong("\n".join(f"k{n}: 1" for n in range(1000)))) == 50


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n"
        + "\n".join(f"{c}: &{c} [*{b}, *{b}]" for b, c in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)),
        "over: &o {words: *o}",
        "items: &i [*i]",
        "tls: &t\n  words: &w [*w, *w]",
    ],
)
def test_alias_bombs_and_aliases_of_themselves_end(text: str) -> None:
    assert wrong(text)


def test_an_alias_bomb_where_lists_are_allowed_is_bounded() -> None:
    text = "inner:\n- &a0 {inner: []}\n" + "".join(f"- &a{n} {{inner: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
    with pytest.raises(ConfigError, match=r"f.yaml:\d+:\d+: .*more than 20000 values, aliases followed"):
        Reading("f.yaml", text.encode()).read(Nest)


@pytest.mark.parametrize("text", ["text: " + "[" * 900 + "]" * 900, "[" * 50_000, "- " * 50_000])
def test_deep_nesting_ends_in_an_error(text: str) -> None:
    assert len(wrong(text)) == 1


def test_a_place_can_be_found_later() -> None:
    reading = Reading("f.yaml", b"items:\n- name: a\n- name: b\n  only: c\n")
    assert str(reading.problem_at(("items", 1, "only"), "no")) == "f.yaml:4:9: items[1].only: no"
    assert str(reading.problem_at(("items", 1, "other", 0), "no")) == "f.yaml:3:3: items[1].other: no"
    assert str(Reading("f.yaml", b"").problem_at(("text",), "no")) == "f.yaml: text: no"


@pytest.mark.parametrize(
    "value",
    [
        Outer(),
        Outer(text="on", maybe="null", either="5", version="5", colour=Colour.GREEN),
        Outer(text="a: b # c", maybe="", inner=Inner(words=("0", Hex("01 ff"), "ü\n\x07"))),
        Outer(items=[Named(name="*x")], over={"port": 1, "words": None}, by_name={"on": 1}, tls=Inner(wait_s=0.1)),
    ],
)
def test_what_is_dumped_is_read_back_as_the_same(value: Outer) -> None:
    assert read(typed_yaml.dump(msgspec.to_builtins(value))) == value
    assert read(msgspec.json.encode(value)) == value


def test_the_parser_in_python_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_yaml, "_Loader", yaml.BaseLoader)
    assert read("text: on\ninner: {words: [1, {hex: 01}]}") == Outer(text="on", inner=Inner(words=("1", Hex("01"))))
    assert wrong("inner:\n  prot: 1")[0].startswith("f.yaml:2:3: inner.prot: unknown key 'prot'")
    assert wrong("text: a\ninner: {host: '\x07'}") == ["f.yaml:2:16: the character U+0007 is not allowed in YAML"]
    assert wrong("text: a: b")[0].startswith("f.yaml:1:8: not YAML: mapping values are not allowed here")
    assert wrong("- " * 50_000) == ["f.yaml: nested too deeply"]
