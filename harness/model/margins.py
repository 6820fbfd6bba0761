"""Puts margins into the text of a `system.yaml`, and leaves everything else as it stands: comments, order, blank lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from harness.errors import InvalidFile
from harness.model.expectations import Margins
from harness.model.reading import Document, read_document, shown, validate
from harness.model.system import SystemFile

KEY = "worse_by"


def with_margins(path: Path, margins: Margins) -> str:
    """The text of the file with these margins under `worse_by`; raises InvalidFile where it has no place for them."""
    document = read_document(path, "a system.yaml")
    said = {name: value for name, value in margins.model_dump(mode="json").items() if value}
    text = _edited(document, said)
    before, after = validate(SystemFile, document)[0], _read(document.file, text)
    if before is None or after is None or after.model_copy(update={KEY: before.worse_by}) != before:
        raise InvalidFile(
            (document.problem((KEY,), f"expected {KEY} written out as a mapping, to put margins into: {KEY}: {{}}"),)
        )
    return text


def _read(file: str, text: str) -> SystemFile | None:
    """What the edited text says; None where the edit broke it, as that of a file that is one line of JSON."""
    try:
        return validate(SystemFile, Document(file, text, yaml.safe_load(text)))[0]
    except yaml.YAMLError:
        return None


def _edited(document: Document, said: dict[str, str]) -> str:
    root = yaml.compose(document.text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), shown(Path(document.file))
    node = next((value for key, value in root.value if key.value == KEY), None)
    if node is None:
        return f"{document.text.rstrip()}\n\n{KEY}: {{{_flow(said)}}}\n"
    if not isinstance(node, yaml.MappingNode):
        return document.text
    text = document.text
    for begin, end, new in sorted(_edits(node, said), reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def _edits(node: yaml.MappingNode, said: dict[str, str]) -> Iterator[tuple[int, int, str]]:
    """What to put from where to where: values in place of those that stand there, and the keys that do not."""
    there = {key.value: value for key, value in node.value}
    for name, value in said.items():
        if name in there:
            begin, end = there[name].start_mark.index, there[name].end_mark.index
            yield begin, end, value if end > begin else f" {value}"
    missing = {name: value for name, value in said.items() if name not in there}
    if not missing:
        return
    if not there:
        at = node.start_mark.index + len("{")
        yield at, at, _flow(missing)
        return
    first = node.value[0][0].start_mark  # the mapping's own comes before its tag or anchor
    if node.flow_style:
        yield first.index, first.index, f"{_flow(missing)}, "
    else:
        indent = " " * first.column
        yield first.index, first.index, "".join(f"{name}: {value}\n{indent}" for name, value in missing.items())


def _flow(said: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in said.items())
