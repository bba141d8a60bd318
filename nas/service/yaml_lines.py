"""YAML as plain values, with the line of every key: what an error message needs and `yaml.safe_load` throws away."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from nas.core import JobFileError, UserError

Path = tuple[str | int, ...]  # keys and list positions from the root: ("objectives", 1, "limit")

MAX_BYTES = 100_000  # a job file is a page or two of text; a data set passed by mistake is not read to its end
MAX_INT = 2**63 - 1
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float", "str")


class _Loader(yaml.SafeLoader):
    """YAML whose plain scalars read as in version 1.2: no dates, no base 60, no yes and no, and 1e-3 is a number."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's name; the inherited table holds the rules of version 1.1)


for _name, _pattern, _first in (
    ("bool", r"^(?:true|false|True|False)$", "tfTF"),
    ("int", r"^[-+]?(?:0x[0-9a-fA-F]+|0|[1-9][0-9_]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("null", r"^(?:~|null|Null|)$", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file's content.

    Attributes:
        value: Made of dict, list, str, int, float, bool and None; every number is finite.
        lines: Path to the line where its key (or list item) stands, counted from 1.
    """

    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int | None:
        """Return the line of `path`, or that of its nearest ancestor that is written in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def error(self, path: Path, message: str) -> JobFileError:
        """Return the error that says `message` of what stands at `path`."""
        return JobFileError(message, self.line(path))

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Give a user's mistake inside the block a line: that of the key under `path` which it names, else of `path`."""
        try:
            yield
        except UserError as error:
            value = self.get(path)
            named = [key for key in value if re.search(rf"\b{re.escape(key)}\b", str(error))] if isinstance(value, dict) else []
            path = (*path, *named[:1])
            raise self.error(path, f"{dotted(path)}: {error}") from None

    def get(self, path: Path) -> Any:
        """Return the value at `path`, or None where the file has nothing there."""
        value = self.value
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def dotted(path: Path) -> str:
    """Return ``objectives[1].limit`` for ("objectives", 1, "limit")."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def decode(raw: bytes) -> str:
    """Return the text of a file.

    Raises:
        JobFileError: It is too long, or not UTF-8; the message names the line.
    """
    if len(raw) > MAX_BYTES:
        raise JobFileError(f"a job file has at most {MAX_BYTES} bytes: this one has more; is it a YAML file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise JobFileError(f"a job file is UTF-8 text: byte 0x{raw[error.start]:02x} is not; save it as UTF-8", line) from None


def parse(text: str) -> Document:
    """Return the values and lines of one YAML document.

    Raises:
        JobFileError: Broken YAML, a key that comes twice, a number that is not finite, or a part of YAML that a job file
            does not use (anchors, tags, several documents).
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        value = None if node is None else _value(loader, node, (), lines, set())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise JobFileError(
            f"a job file is plain text: it has the character {_code(error.character)}; remove it", line
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise JobFileError(_explain(error), None if mark is None else mark.line + 1) from None
    except RecursionError:
        raise JobFileError("a job file is at most a few levels deep: this one is nested too deep; flatten it") from None
    return Document(value, lines)


def _code(character: str | int) -> str:
    return f"U+{ord(character) if isinstance(character, str) else character:04X}"


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or "it cannot be read").split())
    if "\\t" in problem:
        return "YAML is indented with spaces: a tab stands here; replace it by spaces"
    if "single document" in str(error.context):
        return "a job file holds one document: a second one starts here; remove the line of dashes"
    return (
        f"this is not valid YAML: {problem}; check the indentation, colons, brackets and quotes of this line and the one before"
    )


def _value(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if id(node) in seen:
        raise JobFileError("a job file has no anchors and aliases: one stands here; write the value out", line)
    seen.add(id(node))
    if node.tag not in {_TAG + name for name in (*_SCALARS, "map", "seq")}:
        raise JobFileError(f"a job file has no tags: {node.tag.removeprefix(_TAG)!r} stands here; write a plain value", line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, i), lines, seen) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                raise JobFileError(f"a key is a name: {_shown(key_node)} is none; quote it if it is meant as one", key_line)
            key = key_node.value
            if key in mapping:
                first = lines[(*path, key)]
                raise JobFileError(f"a key comes once: {dotted((*path, key))!r} stands in line {first} too; keep one", key_line)
            lines[(*path, key)] = key_line
            mapping[key] = _value(loader, value_node, (*path, key), lines, seen)
        return mapping
    return _scalar(loader, node, path, line)


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"


def _scalar(loader: _Loader, node: yaml.Node, path: Path, line: int) -> Any:
    name = dotted(path) or "the file"
    try:
        value = loader.construct_object(node)
        if isinstance(value, str):
            value.encode()  # a lone surrogate, "\ud800", is no text
    except (ValueError, KeyError, yaml.YAMLError):
        raise JobFileError(f"{name} cannot be read as a value: got {str(node.value)[:40]!r}; write it plainly", line) from None
    if (isinstance(value, int) and abs(value) > MAX_INT) or (isinstance(value, float) and not math.isfinite(value)):
        raise JobFileError(f"{name} is a finite number below 2^63: got {str(node.value)[:40]}; write such a number", line)
    return value
