"""From text to data with places, and from data to parts: every problem of a file at once, each with its line.

YAML is read without constructing anything but plain values; a key written twice, an alias that leads back
into itself, a file that is huge or becomes huge through its aliases are refused here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import InvalidFile, Problem

P = TypeVar("P", bound=BaseModel)
Loc: TypeAlias = tuple[str | int, ...]

LARGEST_FILE = 1024 * 1024
MOST_VALUES = 20_000
MOST_NESTED = 50
LONGEST_NUMBER = 100

PLAIN = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "timestamp", "str"))
NUMBERS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float"))
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""What no file name, no variable and no file in UTF-8 can hold."""


@dataclass
class Document:
    """A file's content as plain data, with the place of every key and value by its path."""

    file: str
    text: str
    data: Any = None
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    values: dict[Loc, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Loc, message: str, *, at_key: bool = False) -> Problem:
        """A problem at a path; where the path itself does not stand in the file, at the nearest part that holds it."""
        known = [self.keys, self.values] if at_key else [self.values, self.keys]
        for length in range(len(path), -1, -1):
            for places in known:
                if path[:length] in places:
                    return Problem(self.file, *places[path[:length]], message)
        return Problem(self.file, 1, 1, message)

    def place(self, path: Loc) -> str:
        """Where a path stands, as `file:line:column`."""
        problem = self.problem(path, "")
        return f"{problem.file}:{problem.line}:{problem.column}"


def shown(path: Path) -> str:
    """A path as it is shown to people: relative to here where that is shorter."""
    try:
        relative = str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
    return relative if relative != "." else str(path)


def refuse(path: Path, message: str) -> InvalidFile:
    """The error for a file that cannot be read at all."""
    return InvalidFile((Problem(shown(path), 0, 0, message),))


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have, or that leads where nobody may look, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, as `is_file` has it."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_text(path: Path, what: str) -> str:
    """The text of a file that a person wrote."""
    try:
        there, size = path.exists(), path.stat().st_size if path.exists() else 0
    except OSError as error:
        raise refuse(path, f"expected {what}, could not look for it: {error.strerror}") from error
    if not there:
        near = difflib.get_close_matches(
            path.name, [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else [], 1
        )
        hint = f"; did you mean {near[0]}?" if near else ""
        raise refuse(path, f"expected {what}, found no such file{hint}")
    if not path.is_file():
        raise refuse(path, f"expected {what}, found something that is not a file")
    if size > LARGEST_FILE:
        raise refuse(path, f"expected {what} of at most {LARGEST_FILE:,} bytes, found {size:,}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise refuse(path, f"expected {what}, could not read it: {error.strerror}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidFile(
            (Problem(shown(path), line, 1, f"expected UTF-8, found the byte 0x{raw[error.start]:02x}"),)
        ) from error


def read_document(path: Path, what: str) -> Document:
    """Read a YAML file with one document, a mapping."""
    document = Document(shown(path), read_text(path, what))
    try:
        root = yaml.compose(document.text, Loader=_Composing)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        told = "" if isinstance(error, TooMuch) else "YAML, found what is none: "
        raise InvalidFile(
            (Problem(document.file, line, column, f"expected {told}{error.problem or error.context}"),)
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InvalidFile(
            (Problem(document.file, 1, 1, f"expected YAML, found what is none: {error}".splitlines()[0]),)
        ) from error
    except RecursionError as error:
        raise InvalidFile((Problem(document.file, 1, 1, "expected YAML, found it nested too deeply to read"),)) from error
    if not isinstance(root, yaml.MappingNode):
        found = "nothing" if root is None else "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise InvalidFile((Problem(document.file, 1, 1, f"expected {what}, a mapping of keys to values; found {found}"),))
    _Unfolding(document).unfold_all(root)
    return document


class TooMuch(yaml.MarkedYAMLError):
    """A file that holds more than any person writes."""


class _Composing(yaml.SafeLoader):
    """Gives up on what no person wrote before it fills the memory."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._composed += 1
        self._depth += 1
        if self._composed > 2 * MOST_VALUES:  # keys are nodes, too
            self._give_up(f"at most {MOST_VALUES:,} values")
        if self._depth > MOST_NESTED + 1:
            self._give_up(f"values nested at most {MOST_NESTED} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _give_up(self, expected: str) -> NoReturn:
        raise TooMuch(problem=f"{expected}, found more", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]


class _Unfolding:
    """Turns YAML nodes into plain data, noting each place, and refusing what repeats or never ends."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems: list[Problem] = []
        self._constructor = yaml.SafeLoader("")
        self._open: list[yaml.Node] = []
        self._budget = MOST_VALUES

    def unfold_all(self, root: yaml.Node) -> None:
        try:
            self._document.data = self._unfold(root, ())
        except RecursionError:
            self._say(root, "expected values nested less deeply")
        if self._problems:
            raise InvalidFile(tuple(self._problems))

    def _say(self, node: yaml.Node, message: str) -> None:
        self._problems.append(Problem(self._document.file, node.start_mark.line + 1, node.start_mark.column + 1, message))

    def _unfold(self, node: yaml.Node, path: Loc) -> Any:
        self._budget -= 1
        if self._budget < 0:
            if self._budget == -1:
                self._say(node, f"expected at most {MOST_VALUES:,} values, found more (through its aliases?)")
            return None
        if any(node is above for above in self._open):
            self._say(node, "expected a value, found an alias that leads back into itself")
            return None
        if len(self._open) > MOST_NESTED:
            self._say(node, f"expected values nested at most {MOST_NESTED} deep, found more")
            return None
        self._document.values.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._unfold(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else None
        finally:
            self._open.pop()

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag not in PLAIN:
            self._say(node, f"expected a plain value, found the tag {node.tag}")
            return node.value
        if node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
            self._say(
                node, f"expected a number of at most {LONGEST_NUMBER} characters (or text, in quotes), found a longer one"
            )
            return node.value
        self._check_text(node)
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError):
            return node.value  # what is no such thing after all is text

    def _check_text(self, node: yaml.ScalarNode) -> None:
        if UNWRITABLE.search(node.value):
            self._say(node, f"expected text without NUL and halves of characters, found {_shorten(node.value)!a}")

    def _mapping(self, node: yaml.MappingNode, path: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._say(key_node, "expected a key, found a list or a mapping")
                continue
            key = key_node.value
            self._check_text(key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._merge(value_node, path, merged)
                continue
            if key in data:
                first = self._document.keys[(*path, key)][0]
                advice = "; what belongs beneath that one stands further in" if data[key] is None else ""
                self._say(key_node, f"expected each key once, found {key!r} again (first in line {first}{advice})")
                continue
            self._document.keys[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            self._document.values.pop((*path, key), None)
            data[key] = self._unfold(value_node, (*path, key))
        return {**merged, **data}

    def _merge(self, node: yaml.Node, path: Loc, merged: dict[str, Any]) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            content = self._unfold(source, path)
            if isinstance(content, dict):
                merged.update({key: value for key, value in content.items() if key not in merged})
            else:
                self._say(source, "expected a mapping to merge here")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the nearest of the known words, or with all of them where there are few; starts with `; `."""
    words = sorted(set(known))
    near = difflib.get_close_matches(word, words, 1, 0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there is {', '.join(words)}" if 0 < len(words) <= 12 else ""


def validate(
    kind: type[P], document: Document, told: Mapping[Loc, Problem] | None = None
) -> tuple[P | None, tuple[Problem, ...]]:
    """The document as a part, or every reason why it is none; `told` are problems in place of all those at their paths."""
    told = told or {}
    try:
        part = kind.model_validate(document.data)
    except ValidationError as error:
        others = [details for details in error.errors() if not _is_under(_path_in(document.data, details["loc"]), told)]
        return None, (*told.values(), *(_problem(kind, document, dict(details)) for details in others))
    return (None, tuple(told.values())) if told else (part, ())


def _is_under(path: Loc, tops: Iterable[Loc]) -> bool:
    return any(path[: len(top)] == top for top in tops)


def _problem(kind: type[BaseModel], document: Document, details: dict[str, Any]) -> Problem:
    path = _path_in(document.data, details["loc"])
    if details["type"] == "extra_forbidden":
        key = str(path[-1])
        known = _keys_at(kind, path[:-1])
        return document.problem(path, f"expected a key that is known here, found {key!r}{nearest(key, known)}", at_key=True)
    if details["type"] == "missing":
        return document.problem(
            path[:-1] if path and path[-1] == details["loc"][-1] else path,
            f"expected the key {details['loc'][-1]!r}, found none",
        )
    return document.problem(path, _message(details))


def _path_in(data: Any, loc: Sequence[str | int]) -> Loc:
    """The path in the file of an error's location, without the names of union members that pydantic puts in."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]
        elif index < len(loc) - 1 or part == "[key]":
            continue
        path.append(part)
    return tuple(path)


def _keys_at(kind: Any, path: Loc) -> list[str]:
    """The keys that a part knows at a path."""
    for part in path:
        models = _models_in(kind)
        fields = {info.alias or name: info.annotation for model in models for name, info in model.model_fields.items()}
        if part in fields:
            kind = fields[str(part)]
        elif models:
            return []
        else:
            kind = _item_of(kind)
    return sorted({info.alias or name for model in _models_in(kind) for name, info in model.model_fields.items()})


def _models_in(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    if getattr(kind, "__origin__", None) in (tuple, dict):
        return []
    return [model for inner in get_args(kind) for model in _models_in(inner)]


def _item_of(kind: Any) -> Any:
    """What a list or a mapping of the model holds."""
    origin = getattr(kind, "__origin__", None)
    if origin is tuple:
        return get_args(kind)[0]
    if origin is dict:
        return get_args(kind)[1]
    for inner in get_args(kind):
        found = _item_of(inner)
        if found is not None:
            return found
    return None


_EXPECTED = {
    "string_type": "text (in quotes, where YAML reads it as something else)",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "string_too_short": "some text",
    "too_short": "at least one entry",
}


def _message(details: dict[str, Any]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    found = _shorten(details["input"])
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found}"
    if kind == "literal_error":
        words = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        hint = nearest(details["input"], words) if isinstance(details["input"], str) else ""
        return f"expected {context['expected']}, found {found}{hint if 'mean' in hint else ''}"
    for name, bound in (
        ("ge", "at least"),
        ("gt", "more than"),
        ("le", "at most"),
        ("lt", "less than"),
        ("max_length", "at most"),
    ):
        if name in context:
            return f"expected {bound} {context[name]}, found {found}"
    if kind == "string_pattern_mismatch":
        return f"expected text of the form {context['pattern']}, found {found}"
    message = str(details["msg"])
    said = message if message.startswith("expected") else f"expected something else: {message}"
    return said if "found" in said else f"{said}, found {found}"


def _shorten(value: Any) -> str:
    if isinstance(value, dict):
        return "the keys " + ", ".join(map(str, list(value)[:6])) if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
