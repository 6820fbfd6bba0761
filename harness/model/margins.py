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
    draft = Document(document.file, text, yaml.safe_load(text))
    before, after = (validate(SystemFile, one)[0] for one in (document, draft))
    if before is None or after is None or after.model_copy(update={KEY: before.worse_by}) != before:
        raise InvalidFile((document.problem((KEY,), "expected worse_by written out as a mapping, to put margins into"),))
    return text


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
            yield there[name].start_mark.index, there[name].end_mark.index, value
    missing = {name: value for name, value in said.items() if name not in there}
    if not missing:
        return
    at = node.start_mark.index
    if node.flow_style:
        yield at + 1, at + 1, _flow(missing) + (", " if there else "")
    else:
        indent = " " * node.start_mark.column
        yield at, at, "".join(f"{name}: {value}\n{indent}" for name, value in missing.items())


def _flow(said: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in said.items())
