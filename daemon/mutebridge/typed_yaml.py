"""YAML read into typed values, with the place of everything that is wrong with it.

The wanted type decides what a plain word means. Where text is wanted, `0012`, `on` and `5` are that text, where a
switch is wanted, `on` is true: nothing changes its kind on the way, as it would if YAML guessed first and the types
looked afterwards. Only where a type is `Any` it is guessed: true, false, null and numbers are that, the rest is text.
A key without a value, or with null, is as good as absent.

The text is composed into nodes, which know their places, and the nodes are held against the types (`msgspec.Struct`
and what it is made of). Everything that is wrong is collected, so that a person mends a file in one go; only a file
that is no YAML at all ends at its first fault. An error of a struct's own `__post_init__` (ValueError) is placed at the
key with which its message begins.

A field that lays some keys of another struct over a default says so in its annotation, `Annotated[dict[str, Any],
msgspec.Meta(extra={"part_of": ThatStruct})]`: its keys and values are held against that struct, none is needed, null
takes one away, and the result is a dict of builtins.

Bounded: the size of the text, the number of nodes after aliases are followed (so no alias bomb), the depth.
"""

import enum
import math
import re
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import yaml

MAX_BYTES = 256 * 1024
_MAX_NODES = 20_000
_MAX_PROBLEMS = 50
_MAX_DIGITS = 40

# libyaml's parser when it was built in, eight times as quick as the one in Python.
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("str", "seq", "map")}
_NULLS = {"", "~", "null", "Null", "NULL"}
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")

_T = TypeVar("_T")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, for a person; lines and columns count from 1, `key` is a path such as `broker.port`."""

    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""
    message: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """What a person has to mend: one line for each problem."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Reading:
    """One YAML text; `read` gives the typed value and `problem_at` the place of what is found to be wrong later."""

    def __init__(self, file: str, data: bytes) -> None:
        self._file = file
        self._problems: list[Problem] = []
        self._nodes_left = _MAX_NODES
        self._in_part = False
        self._root = _compose(file, _decoded(file, data))

    def read(self, kind: type[_T]) -> _T:
        """Return the text as a `kind`; ConfigError names all that is wrong. Nothing is as good as `{}`."""
        root = self._root if self._root is not None and not _is_null(self._root) else _compose(self._file, "{}")
        assert root is not None
        try:
            value = self._value(root, kind, "")
        except RecursionError:
            raise ConfigError(Problem(file=self._file, message="nested too deeply")) from None
        if self._problems:
            raise ConfigError(*sorted(self._problems, key=lambda problem: problem.line or 0))
        assert value is not _WRONG
        found: _T = value
        return found

    def problem_at(self, path: tuple[str | int, ...], message: str) -> Problem:
        """Return a problem at the value of `path` (keys and indices), or at the deepest part of it that is there."""
        node, key = self._root, ""
        for step in path:
            inner = _child(node, step)
            key = _join(key, step)
            if inner is None:
                break
            node = inner
        return self._located(node, key, message)

    # --- one method for each kind of value; each returns _WRONG after it told what is wrong

    def _value(self, node: yaml.Node, kind: Any, at: str) -> Any:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise ConfigError(self._located(node, at, f"more than {_MAX_NODES} values, aliases followed"))
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace(_TAG, "!!")
            return self._wrong(node, at, f"the tag {tag} is not used here: give {_expected(kind)}")
        if (whole := _part_of(kind)) is not None and isinstance(node, yaml.MappingNode):
            return self._part(node, whole, at)
        options = _options(kind)
        if _is_null(node):
            return self._nothing(node, kind, options, at)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, kind, options, at)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, kind, options, at)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, kind, options, at)

    def _nothing(self, node: yaml.Node, kind: Any, options: tuple[Any, ...], at: str) -> Any:
        if self._in_part or type(None) in options or Any in options:
            return None
        return self._wrong(node, at, f"the value is missing: {_expected(kind)} is expected")

    def _mapping(self, node: yaml.MappingNode, kind: Any, options: tuple[Any, ...], at: str) -> Any:
        structs = [option for option in options if _is_struct(option)]
        if len(structs) == 1:
            return self._struct(node, structs[0], at)
        for option in options:
            if get_origin(option) is dict:
                key_kind, value_kind = get_args(option)
                return self._dict(node, key_kind, value_kind, at)
        if Any in options:
            return self._dict(node, str, Any, at)
        return self._wrong(node, at, f"keys and values are given, but {_expected(kind)} is expected")

    def _part(self, node: yaml.MappingNode, whole: type[msgspec.Struct], at: str) -> Any:
        before, self._in_part = self._in_part, True
        try:
            return self._struct(node, whole, at)
        finally:
            self._in_part = before

    def _struct(self, node: yaml.MappingNode, kind: type[msgspec.Struct], at: str) -> Any:
        fields = _fields(kind)
        wrong_before = len(self._problems)
        values: dict[str, Any] = {}
        for key, key_node, value_node in self._pairs(node, at):
            if key not in fields:
                self._wrong(key_node, _join(at, key), _unknown("key", key, fields))
                continue
            if _is_null(value_node) and not self._in_part and not fields[key].required:
                continue
            name = key if self._in_part else fields[key].name
            values[name] = self._value(value_node, fields[key].type, _join(at, key))
        if self._in_part:
            return values
        for key, field in fields.items():
            if field.required and field.name not in values:
                self._wrong(node, at, f"{key!r} is missing: {_expected(field.type)} is expected")
        if len(self._problems) > wrong_before:
            return _WRONG
        try:
            return kind(**values)
        except ValueError as error:
            return self._rejected(node, at, fields, str(error))

    def _rejected(self, node: yaml.MappingNode, at: str, fields: Mapping[str, Any], message: str) -> Any:
        begins_with = re.match(r"'?(\w+)", message)
        key = begins_with[1] if begins_with else ""
        inner = _child(node, key) if key in fields else None
        if inner is None:
            return self._wrong(node, at, message)
        return self._wrong(inner, _join(at, key), message.removeprefix(f"{key}: "))

    def _dict(self, node: yaml.MappingNode, key_kind: Any, value_kind: Any, at: str) -> Any:
        values: dict[Any, Any] = {}
        for text, key_node, value_node in self._pairs(node, at):
            key = _scalar_as(text, key_kind, plain=True)
            if key is _WRONG:
                self._wrong(key_node, _join(at, text), _unknown("key", text, dict.fromkeys(_words((key_kind,)))))
            else:
                values[text if self._in_part else key] = self._value(value_node, value_kind, _join(at, text))
        return values

    def _pairs(self, node: yaml.MappingNode, at: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, at, "a key is one word")
                continue
            key = key_node.value
            if key in seen:
                self._wrong(key_node, _join(at, key), f"is given a second time; the first is on line {seen[key]}")
                continue
            seen[key] = key_node.start_mark.line + 1
            yield key, key_node, value_node

    def _sequence(self, node: yaml.SequenceNode, kind: Any, options: tuple[Any, ...], at: str) -> Any:
        for option in options:
            if get_origin(option) in (list, tuple):
                inner = get_args(option)[0]
                values = [self._value(item, inner, f"{at}[{index}]") for index, item in enumerate(node.value)]
                return get_origin(option)(values)
        if Any in options:
            return [self._value(item, Any, f"{at}[{index}]") for index, item in enumerate(node.value)]
        return self._wrong(node, at, f"a list is given, but {_expected(kind)} is expected")

    def _scalar(self, node: yaml.ScalarNode, kind: Any, options: tuple[Any, ...], at: str) -> Any:
        text, plain = node.value, _is_plain(node)
        for option in options:
            value = _scalar_as(text, option, plain=plain)
            if value is not _WRONG:
                checked = self._checked(node, value, kind, at)
                return checked.value if self._in_part and isinstance(checked, enum.Enum) else checked
        hint = ""
        if not plain and any(_scalar_as(text, option, plain=True) is not _WRONG for option in options):
            hint = "; leave the quotes away"
        words = _words(options)
        if words and all(_words((option,)) for option in options if option is not type(None)):
            return self._wrong(node, at, _unknown("value", text, dict.fromkeys(words)))
        return self._wrong(node, at, f"{_shown(text)} is given, but {_expected(kind)} is expected{hint}")

    def _checked(self, node: yaml.ScalarNode, value: Any, kind: Any, at: str) -> Any:
        if not _has_limits(kind):
            return value
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            return self._wrong(node, at, f"{_shown(node.value)} is given, but {_in_words(str(error))}")

    def _wrong(self, node: yaml.Node, at: str, message: str) -> Any:
        self._problems.append(self._located(node, at, message))
        if len(self._problems) >= _MAX_PROBLEMS:
            raise ConfigError(*self._problems)
        return _WRONG

    def _located(self, node: yaml.Node | None, at: str, message: str) -> Problem:
        if node is None:
            return Problem(file=self._file, key=at, message=message)
        mark = node.start_mark
        return Problem(file=self._file, line=mark.line + 1, column=mark.column + 1, key=at, message=message)


def dump(value: Any) -> str:
    """Return builtins as YAML that `Reading` reads back as the same."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


class _Wrong(enum.Enum):
    WRONG = "told already"


_WRONG = _Wrong.WRONG


class _Truth:
    """Stands for a bool where no type says that one is wanted: only `true` and `false` are."""


# --- the text


def _decoded(file: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise ConfigError(Problem(file=file, message=f"larger than {MAX_BYTES // 1024} KiB"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise ConfigError(Problem(file=file, line=line, column=column, message=message)) from None


def _compose(file: str, text: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        column = None if mark is None else mark.column + 1
        raise ConfigError(
            Problem(file=file, line=line, column=column, message=_syntax(error, text, line or 1))
        ) from None
    except yaml.reader.ReaderError:
        raise ConfigError(_control_character(file, text)) from None
    except RecursionError:
        raise ConfigError(Problem(file=file, message="nested too deeply")) from None
    finally:
        if loader is not None:
            loader.dispose()
    return node


def _syntax(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    what = ", ".join(part for part in (error.context, error.problem) if part)
    lines = text.split("\n")
    written = lines[line - 1] if line <= len(lines) else ""
    if "another document" in what:
        return "a second document begins here: one file holds one document, without '---' inside"
    hint = ""
    if re.match(r" *\t", written):
        hint = ": indent with blanks, not with tabs"
    elif "mapping values are not allowed" in what:
        hint = ": put a text that holds ': ' in quotes, or check the indentation"
    elif "found undefined alias" in what:
        hint = ": put a text that begins with '*' in quotes"
    return f"not YAML: {what}{hint}"


def _control_character(file: str, text: str) -> Problem:
    index = next((i for i, c in enumerate(text) if not (c.isprintable() or c in "\t\n\r\x85\xa0\u2028\u2029")), 0)
    before = text[:index]
    return Problem(
        file=file,
        line=before.count("\n") + 1,
        column=index - before.rfind("\n"),
        message=f"the character U+{ord(text[index]):04X} is not allowed in YAML",
    )


def _is_plain(node: yaml.ScalarNode) -> bool:
    return node.style in (None, "")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and _is_plain(node) and node.value in _NULLS


def _child(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        found: yaml.Node | None = node.value[step] if step < len(node.value) else None
        return found
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None


# --- the types


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@lru_cache(maxsize=256)
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


@lru_cache(maxsize=1024)
def _options(kind: Any) -> tuple[Any, ...]:
    """Return what a union is made of, without the limits of its parts; any other type alone."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(option for part in get_args(kind) for option in _options(part))
    return (kind,)


@lru_cache(maxsize=1024)
def _part_of(kind: Any) -> type[msgspec.Struct] | None:
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    metas = (meta for part in parts for meta in getattr(part, "__metadata__", ()) if isinstance(meta, msgspec.Meta))
    return next((meta.extra["part_of"] for meta in metas if meta.extra and "part_of" in meta.extra), None)


@lru_cache(maxsize=1024)
def _has_limits(kind: Any) -> bool:
    return get_origin(kind) is Annotated or any(
        _has_limits(part) for part in get_args(kind) if get_origin(kind) in (Union, types.UnionType)
    )


def _scalar_as(text: str, kind: Any, *, plain: bool) -> Any:
    """Return what a word means where a `kind` is wanted; _WRONG when it cannot be one."""
    if kind is Any:
        guesses = (_scalar_as(text, each, plain=plain) for each in (_Truth, int, float))
        return next((guess for guess in guesses if guess is not _WRONG), text)
    if get_origin(kind) is Literal:
        return text if text in get_args(kind) else _WRONG
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next((member for member in kind if member.value == text), _WRONG)
    if kind is str:
        return text
    return _plain_as(text, kind) if plain and len(text) <= _MAX_DIGITS else _WRONG


def _plain_as(text: str, kind: Any) -> Any:
    if kind is bool:
        return _SWITCHES.get(text.lower(), _WRONG)
    if kind is _Truth:
        return _SWITCHES[text] if text in ("true", "false") else _WRONG
    if kind is int and _WHOLE.fullmatch(text):
        return int(text, 0)
    if kind is float and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return _WRONG


def _words(options: tuple[Any, ...]) -> list[str]:
    """Return the words of literals and enumerations."""
    words: list[str] = []
    for option in options:
        if get_origin(option) is Literal:
            words += [str(word) for word in get_args(option)]
        elif isinstance(option, type) and issubclass(option, enum.Enum):
            words += [str(member.value) for member in option]
    return words


_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
}
_ORIGIN_NAMES = {list: "a list", tuple: "a list", dict: "keys and values"}


def _expected(kind: Any) -> str:
    """Return what is allowed, for people."""
    names: list[str] = []
    options = _options(kind)
    if words := _words(options):
        names.append("one of " + ", ".join(words) if len(words) > 1 else words[0])
    for option in options:
        if _is_struct(option):
            names.append("keys and values (" + ", ".join(_fields(option)) + ")")
        elif name := _NAMES.get(option) or _ORIGIN_NAMES.get(get_origin(option) or option):
            names.append(name)
    return " or ".join(dict.fromkeys(names))


def _in_words(message: str) -> str:
    """Turn msgspec's `Expected `int` <= 65535` into words."""
    for name, words in (("`int`", "a whole number"), ("`float`", "a number"), ("`str`", "a text")):
        message = message.replace(name, words)
    return message.replace("Expected ", "") + " is expected"


def _unknown(what: str, given: str, known: Mapping[str, Any]) -> str:
    import difflib  # noqa: PLC0415 (needed for errors only, and the daemon's start is measured)

    nearest = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.6)
    meant = f": did you mean {nearest[0]!r}?" if nearest else "."
    return f"unknown {what} {_shown(given)}{meant} Known: {', '.join(known)}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _join(at: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{at}[{step}]"
    step = step if re.fullmatch(r"[\w.-]{1,40}", step) else _shown(step)
    return f"{at}.{step}" if at else step
