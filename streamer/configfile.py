"""Reading the configuration: YAML with a place for every value, so that errors say `file:line:column: what; remedy`.

The shapes of `config` drive the reading; nothing is constructed from YAML tags, the environment is read only where
`${NAME}` says so, and size, depth and expansion are bounded: a hostile file costs an error message and nothing else.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import msgspec
import yaml
from msgspec import inspect
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from streamer.config import Config, Fault, Path, StreamConfig, check, check_stream, mask_text, without_effect
from streamer.configvalue import convert, wanted
from streamer.errors import UserError

MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 16
# Aliases multiply what a file says; a thousand streams of ten settings are 20,000 nodes.
_MAX_NODES = 200_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_PLAIN_TAGS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge"})
_BAD: Any = object()
_ROOT = inspect.type_info(Config)

Further = Callable[[Config], Iterable[Fault]]
"""What is wrong with a configuration beyond what this room can tell: rules and receivers are checked by rooms that know
their languages."""


def nothing_further(config: Config) -> Iterable[Fault]:
    """No further faults."""
    return ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without faults, and in plain words which of its settings have no effect."""

    config: Config
    warnings: list[str]


def load(
    path: str | FilePath, environment: Mapping[str, str] | None = None, further: Further = nothing_further
) -> Loaded:
    """The configuration in the file at `path`; `${NAME}` is looked up in `environment` (default: the process's).

    Raises:
        UserError: the file can't be read or something in it is wrong; names the first place, counts the others.
    """
    reading = _read(path, environment, further)
    found = reading.lines(reading.faults)
    if found or reading.config is None:
        more = f" (and {len(found) - 1} more: streamer check {path} shows all)" if len(found) > 1 else ""
        raise UserError(found[0] + more)
    return Loaded(reading.config, reading.lines(without_effect(reading.config)))


def problems(
    path: str | FilePath, environment: Mapping[str, str] | None = None, further: Further = nothing_further
) -> list[str]:
    """Everything that is wrong with the file at `path`, as `file:line:column: what; remedy`, in the file's order."""
    reading = _read(path, environment, further)
    return reading.lines(reading.faults)


def parse_stream_entry(body: bytes) -> StreamConfig:
    """The stream's entry that a caller of the API sent as JSON; stricter than in the file (see `config.check_stream`).

    Raises:
        UserError: `body` is no JSON object of that shape, or its source is not allowed.
    """
    try:
        entry = msgspec.json.decode(body, type=StreamConfig)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(StreamConfig))
        remedy = f"; an entry takes {known}" if "unknown field" in str(error) else ""
        raise UserError(f"the stream's entry is wrong: {error}{remedy}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UserError('the body is not JSON: send an entry like {"source": "rtsp://10.0.0.7/main"}') from None
    for fault in check_stream(entry, from_api=True):
        raise UserError(": ".join([*map(str, fault.path), fault.text]))
    return entry


def _read(path: str | FilePath, environment: Mapping[str, str] | None, further: Further) -> _Reading:
    reading = _Reading(str(path), os.environ if environment is None else environment, further)
    text = ""
    try:
        text = _text_of(FilePath(path))
        _guard_depth(text)
        root = yaml.compose(text, _LOADER)
    except _Unreadable as error:
        reading.fault_at((error.line, error.column), error.text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        what, line = error.problem or error.context, text.splitlines()[place[0] - 1 : place[0]]
        # Braces end a plain word inside braces, which is the usual way to get here.
        remedy = 'put "${NAME}" in quotes' if "${" in "".join(line) else "check indentation, quotes and brackets here"
        reading.fault_at(place, f"not YAML: {what}; {remedy}")
    except yaml.YAMLError as error:
        reading.fault_at((1, 1), f"not YAML: {str(error).splitlines()[0]}; save the file as plain text in UTF-8")
    else:
        reading.take(root)
    return reading


class _Unreadable(Exception):
    """The file can't be read as text; where and why."""

    def __init__(self, text: str, line: int = 0, column: int = 0) -> None:
        super().__init__(text)
        self.text, self.line, self.column = text, line, column


def _text_of(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _Unreadable(f"can't be read: {error.strerror or error}; name a readable YAML file") from None
    if len(raw) > MAX_BYTES:
        raise _Unreadable(f"is larger than {MAX_BYTES // 1024} KB: a configuration is a small YAML file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise _Unreadable("is not UTF-8 text: save the file as UTF-8", line, column) from None


def _guard_depth(text: str) -> None:
    """Composing nodes recurses in C, so depth is bounded on the events before."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _Unreadable(f"nested deeper than {_MAX_DEPTH} levels; nothing here is", *_place(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reading:
    """One file being read: values come out of `read`, faults and places are collected on the way."""

    def __init__(self, file: str, environment: Mapping[str, str], further: Further) -> None:
        self.config: Config | None = None
        self.faults: list[Fault] = []
        self._file = file
        self._environment = environment
        self._further = further
        self._places: dict[Path, tuple[int, int]] = {}
        self._used: dict[str, str] = {}
        self._nodes = 0

    def take(self, root: Node | None) -> None:
        """Read the document and check it; leaves `config` None where it has no usable shape."""
        if root is None or _is_null(root):
            self.fault_at((1, 1), "the file is empty: it needs at least `streams:` with a stream, or `streams: {}`")
            return
        self._places[()] = _place(root)
        value = self.read(root, _ROOT, ())
        if value is _BAD:
            return
        if ("streams",) not in self._places:
            self.faults.append(Fault((), "`streams` is missing: name the streams, or write `streams: {}`"))
        self.config = value
        # A name or reference that is wrong is told even where other values are too.
        self.faults.extend(check(value))
        self.faults.extend(self._further(value))

    def fault_at(self, place: tuple[int, int], text: str) -> None:
        """Note what is wrong where there is no value that could carry a path."""
        path = ("", len(self.faults))
        self._places[path] = place
        self.faults.append(Fault(path, text))

    def lines(self, faults: Iterable[Fault]) -> list[str]:
        """The faults as lines for people, in the file's order."""
        placed = sorted((self._place_of(fault.path), index, fault.text) for index, fault in enumerate(faults))
        return [
            f"{self._file}:{line}:{column}: {self._hide(text)}" if line else f"{self._file}: {self._hide(text)}"
            for (line, column), _, text in placed
        ]

    def _place_of(self, path: Path) -> tuple[int, int]:
        while path and path not in self._places:
            path = path[:-1]
        return self._places.get(path, (1, 1))

    def _hide(self, text: str) -> str:
        """`text` without what came out of the environment: that may be a secret."""
        for name, value in self._used.items():
            if len(value) >= 4:
                text = text.replace(value, f"${{{name}}}").replace(repr(value)[1:-1], f"${{{name}}}")
        return mask_text(text)

    def _fault(self, path: Path, text: str) -> Any:
        self.faults.append(Fault(path, text))
        return _BAD

    # -- values by the shape they should have ----------------------------------------------------------------------

    def read(self, node: Node, kind: inspect.Type, path: Path) -> Any:
        """The value of `node` as `kind`, or `_BAD` after noting why it is none."""
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            text = "aliases make too much of this file: write it out plainly"
            return _BAD if any(fault.text == text for fault in self.faults) else self._fault(path, text)
        extra: dict[str, Any] = {}
        if isinstance(kind, inspect.Metadata):
            extra, kind = kind.extra or {}, kind.type
        if isinstance(kind, inspect.UnionType):
            chosen = _member(node, kind)
            return None if chosen is None else self.read(node, chosen, path)
        if isinstance(kind, inspect.StructType):
            return self._struct(node, kind, path)
        if isinstance(kind, inspect.DictType):
            return self._dict(node, kind, path)
        if isinstance(kind, inspect.ListType):
            return self._list(node, kind, path)
        return self._scalar(node, kind, extra.get("unit"), path)

    def _struct(self, node: Node, kind: inspect.StructType, path: Path) -> Any:
        known = {field.encode_name: field for field in kind.fields}
        values: dict[str, Any] = {}
        meant: set[str] = set()
        for key, value_node in self._pairs(node, path, f"settings: {', '.join(known)}"):
            field = known.get(key)
            if field is None:
                near = difflib.get_close_matches(key, known, n=1)
                meant.update(near)
                remedy = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
                self._fault((*path, key), f"unknown key `{key[:64]}`; {remedy}")
                continue
            value = self.read(value_node, field.type, (*path, key))
            if value is not _BAD:
                values[field.name] = value
        if not (isinstance(node, MappingNode) or _is_null(node)):
            return _BAD
        required = [field for field in kind.fields if field.required]
        for field in required:
            if (*path, field.encode_name) not in self._places and field.encode_name not in meant:
                self._fault(path, f"`{field.encode_name}` is missing: every entry here needs it")
        # What is wrong stands at its default, so that the rest can still be checked; a file with faults is never used.
        return kind.cls(**values) if all(field.name in values for field in required) else _BAD

    def _dict(self, node: Node, kind: inspect.DictType, path: Path) -> Any:
        pairs = self._pairs(node, path, "names, each with its settings")
        read = {key: self.read(value_node, kind.value_type, (*path, key)) for key, value_node in pairs}
        return {key: value for key, value in read.items() if value is not _BAD}

    def _list(self, node: Node, kind: inspect.ListType, path: Path) -> Any:
        if _is_null(node):
            return []
        if not isinstance(node, SequenceNode):
            return self._fault(path, "expected a list: write [a, b], or one `- a` a line")
        values = []
        for index, item in enumerate(node.value):
            self._places[(*path, index)] = _place(item)
            value = self.read(item, kind.item_type, (*path, index))
            if value is not _BAD:
                values.append(value)
        return values

    def _pairs(self, node: Node, path: Path, expected: str) -> Iterator[tuple[str, Node]]:
        """Keys and value nodes of a mapping, `<<: *other` resolved; what is no key or was there before is a fault."""
        if _is_null(node):
            return
        if not isinstance(node, MappingNode):
            self._fault(path, f"expected {expected}")
            return
        seen: dict[str, int] = {}
        merged: list[tuple[Node, Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged += self._merged(value_node, path)
                continue
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None or key in seen:
                at = _place(key_node)
                self.fault_at(at, "a key must be plain text" if key is None else _duplicate(key, seen[key]))
                continue
            seen[key] = key_node.start_mark.line + 1
            self._places[(*path, key)] = _place(value_node if isinstance(value_node, ScalarNode) else key_node)
            yield key, value_node
        for key_node, value_node in merged:
            if isinstance(key_node, ScalarNode) and key_node.value not in seen:
                seen[key_node.value] = key_node.start_mark.line + 1
                self._places[(*path, key_node.value)] = _place(value_node)
                yield key_node.value, value_node

    def _merged(self, node: Node, path: Path) -> list[tuple[Node, Node]]:
        if isinstance(node, MappingNode):
            return list(node.value)
        self.fault_at(_place(node), "`<<` merges one mapping that is named elsewhere: write `<<: *name`")
        return []

    # -- scalars -----------------------------------------------------------------------------------------------------

    def _scalar(self, node: Node, kind: inspect.Type, unit: str | None, path: Path) -> Any:
        if not isinstance(node, ScalarNode):
            shape = "list" if isinstance(node, SequenceNode) else "mapping"
            return self._fault(path, f"expected {wanted(kind, unit)}, not a {shape}")
        if node.tag.removeprefix(_TAG) not in _PLAIN_TAGS:
            return self._fault(path, f"YAML tags like {node.tag[:32]} are not taken: write the plain value")
        text = self._substituted(node.value, path)
        if text is None:
            return _BAD
        # What came out of the environment is text whatever it looks like, unless another shape is wanted.
        tag = node.tag.removeprefix(_TAG) if text == node.value else "environment"
        try:
            return convert(text, tag, kind, unit)
        except ValueError as error:
            return self._fault(path, str(error))

    def _substituted(self, text: str, path: Path) -> str | None:
        """`text` with each `${NAME}` replaced and `$${` as `${`; None after a fault."""
        faults: list[str] = []

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "${"
            if not match[2] or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                faults.append("`${` needs the name of an environment variable and `}`; write `$${` for a plain `${`")
            elif name not in self._environment:
                faults.append(f"{name} is not set in the environment: set it, or write `$${{` for a plain `${{`")
            else:
                self._used[name] = self._environment[name]
            return self._environment.get(name, "")

        replaced = _VARIABLE.sub(replace, text)
        for fault in faults:
            self._fault(path, fault)
        return None if faults else replaced


def _member(node: Node, kind: inspect.UnionType) -> inspect.Type | None:
    """The member of a union that suits what `node` is; None for null where that is one."""
    if _is_null(node) and kind.includes_none:
        return None
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    structs = [member for member in members if isinstance(member, inspect.StructType)]
    if isinstance(node, MappingNode) and structs:
        return structs[0]
    return next((member for member in members if member not in structs), members[0])


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == f"{_TAG}null"


def _place(marked: Any) -> tuple[int, int]:
    """Where a node or an event begins, counted from 1."""
    return marked.start_mark.line + 1, marked.start_mark.column + 1


def _duplicate(key: str, line: int) -> str:
    return f"`{key[:64]}` is here a second time, the first is on line {line}: keep one"
