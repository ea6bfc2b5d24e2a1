"""YAML text to plain values with the place of each: a small, safe part of YAML.

Scalars stay text, so that none of YAML 1.1's surprises (``no``, ``012``, ``22:30``) changes a
value. Anchors, aliases, tags, repeated keys, several documents, deep nesting and large files are
refused. Knows nothing of what the keys mean. Imports PyYAML and ``gateway.config.problems``.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml

from gateway.config.problems import Finding, Keys, Mark, Problem, shortened, written

SIZE_LIMIT_BYTES = 1024 * 1024
DEPTH_LIMIT = 16
VALUE_LIMIT = 50_000
"""The most keys and values in one file."""

Value = str | None | list["Value"] | dict[str, "Value"]
"""A scalar is its text; None stands for a key without a value."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(slots=True)
class Document:
    """The top mapping and the places of its keys and values, by the keys that lead there."""

    file: Path
    top: dict[str, Value] = field(default_factory=dict)
    key_marks: dict[Keys, Mark] = field(default_factory=dict)
    value_marks: dict[Keys, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    complete: bool = False
    """Whether the text was read to its end, whatever ``problems`` were met on the way."""

    def mark(self, keys: Keys, *, at_key: bool = False) -> Mark:
        """Return where the value (or the key) stands, or the nearest that encloses it."""
        first, second = self.value_marks, self.key_marks
        if at_key:
            first, second = second, first
        for length in range(len(keys), 0, -1):
            found = first.get(keys[:length]) or second.get(keys[:length])
            if found is not None:
                return found
            first, second = self.key_marks, self.value_marks
        return Mark(1, 1)

    def place(self, finding: Finding) -> Problem:
        """Return ``finding`` with its place in this file."""
        mark = self.mark(finding.keys, at_key=finding.at_key)
        return self.problem(mark, finding.keys, finding.message, finding.remedy)

    def problem(self, mark: Mark, keys: Keys, message: str, remedy: str) -> Problem:
        """Return a problem of this file."""
        return Problem(self.file, mark.line, mark.column, written(keys), message, remedy)


class _StopReading(Exception):  # noqa: N818  not an error: what was wrong is noted already
    """Nothing sensible can be read after this point."""


@dataclass(slots=True)
class _Open:
    """A mapping or sequence being read. ``key`` is the pending key of a mapping."""

    keys: Keys
    mapping: dict[str, Value] | None
    sequence: list[Value] | None
    key: str | None = None
    key_mark: Mark = Mark(1, 1)  # noqa: RUF009  frozen
    skip: bool = False
    """The pending key is a repeated or an impossible one, so its value is dropped."""


def read_document(text: bytes, file: Path) -> Document:
    """Return the document in ``text``; what is wrong with it is in its ``problems``.

    After a fault of syntax the rest is not read; after any other the reading goes on, so that
    one pass finds them all.
    """
    document = Document(file)
    decoded = _decode(text, document)
    if decoded is None:
        return document
    reader = _Reader(document)
    try:
        reader.read(decoded)
        if () not in document.value_marks:
            document.problems.append(_empty(document))
        document.complete = () in document.value_marks
    except _StopReading:
        pass
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(document, decoded, error))
    except (ValueError, OverflowError):
        # PyYAML lets out what Python says of "\\UFFFFFFFF" and of version numbers without end.
        document.problems.append(
            document.problem(reader.mark, (), "is not YAML here or just below.", "Correct it.")
        )
    except yaml.reader.ReaderError as error:
        before = decoded[: error.position]
        mark = Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        document.problems.append(
            document.problem(
                mark, (), "holds a control character.", "Remove it, or write it as an escape."
            )
        )
    return document


def _decode(text: bytes, document: Document) -> str | None:
    def refuse(mark: Mark, message: str, remedy: str) -> None:
        document.problems.append(document.problem(mark, (), message, remedy))

    if len(text) > SIZE_LIMIT_BYTES:
        refuse(Mark(1, 1), "the file is larger than 1 MiB.", "A configuration is a few kilobytes.")
        return None
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line_start = before.rfind(b"\n") + 1
        column = len(before[line_start:].decode("utf-8", "replace")) + 1
        mark = Mark(before.count(b"\n") + 1, column)
        refuse(mark, "the file is not UTF-8 text.", "Save it in the encoding UTF-8.")
        return None
    return decoded


def _empty(document: Document) -> Problem:
    remedy = "Begin with a copy of config.example.yaml."
    return document.problem(Mark(1, 1), (), "the file is empty.", remedy)


def _syntax_problem(document: Document, text: str, error: yaml.MarkedYAMLError) -> Problem:
    place = error.problem_mark if error.problem_mark is not None else error.context_mark
    mark = Mark(1, 1)
    if place is not None:
        mark = Mark(place.line + 1, place.column + 1)
    lines = text.split("\n")
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or "'\\t'" in (error.problem or ""):
        mark = Mark(mark.line, max(line.find("\t") + 1, 1))
        return document.problem(mark, (), "is indented with a tab.", "Indent with spaces.")
    what = " ".join(part for part in (error.context, error.problem) if part)
    remedy = "Check the indentation, the colons and the quotes here and on the line before."
    return document.problem(mark, (), f"is not YAML ({what}).", remedy)


class _Reader:
    """Turns the parser's events into plain values, with a stack of its own and stated limits."""

    def __init__(self, document: Document) -> None:
        self.mark = Mark(1, 1)
        self._document = document
        self._stack: list[_Open] = []
        self._value_count = 0
        self._document_count = 0

    def read(self, text: str) -> None:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            assert event.start_mark is not None, "the parser places every event"
            mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
            self.mark = mark
            if isinstance(event, yaml.DocumentStartEvent):
                self._document_count += 1
                if self._document_count > 1:
                    self._stop(mark, "begins a second document.", "Remove the line '---'.")
            elif isinstance(event, yaml.AliasEvent):
                self._refuse(mark, "refers to an anchor (*), which is not allowed.", "Repeat it.")
                self._add(None, mark)
            elif isinstance(event, yaml.ScalarEvent):
                self._check_properties(event, mark)
                self._scalar(event, mark)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._check_properties(event, mark)
                self._begin(mark, mapping=isinstance(event, yaml.MappingStartEvent))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._end()

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> None:
        text: str = event.value
        if any(unicodedata.category(character) == "Cs" for character in text):
            self._refuse(mark, "holds half of a character (a surrogate).", "Write it whole.")
            text = ""
        plain = event.style is None
        top = self._stack[-1] if self._stack else None
        if top is not None and top.mapping is not None and top.key is None:
            self._key(top, "" if plain and text in _NULL else text, mark)
        else:
            self._add(None if plain and text in _NULL else text, mark)

    def _key(self, top: _Open, text: str, mark: Mark) -> None:
        assert top.mapping is not None
        self._count(mark)
        # Two spellings of one name would be one share with two meanings.
        name = unicodedata.normalize("NFC", text)
        top.key, top.key_mark, top.skip = name, mark, False
        if not name:
            self._refuse(mark, "a key is empty.", "Write a name before the colon.")
            top.skip = True
        elif name in top.mapping:
            first = self._document.key_marks[(*top.keys, name)]
            self._document.problems.append(
                self._document.problem(
                    mark,
                    (*top.keys, name),
                    f"this key already stands on line {first.line}.",
                    "Put everything under one of them and remove the other.",
                )
            )
            top.skip = True
        else:
            self._document.key_marks.setdefault((*top.keys, name), mark)

    def _begin(self, mark: Mark, *, mapping: bool) -> None:
        if len(self._stack) >= DEPTH_LIMIT:
            self._stop(mark, f"is nested more than {DEPTH_LIMIT} deep.", "Nothing here needs it.")
        value: Value = {} if mapping else []
        keys = self._add(value, mark)
        opened = _Open(keys, None, None)
        if isinstance(value, dict):
            opened.mapping = value
        elif isinstance(value, list):
            opened.sequence = value
        self._stack.append(opened)

    def _end(self) -> None:
        closed = self._stack.pop()
        if not self._stack and closed.mapping is not None:
            self._document.top = closed.mapping

    def _add(self, value: Value, mark: Mark) -> Keys:
        """Put ``value`` where the reading stands and return the keys that lead to it."""
        self._count(mark)
        if not self._stack:
            if not isinstance(value, dict):
                self._stop(mark, "the file does not begin with a section.", "Write 'server:' ...")
            self._document.value_marks[()] = mark
            return ()
        top = self._stack[-1]
        keys: Keys
        if top.sequence is not None:
            keys = (*top.keys, len(top.sequence))
            top.sequence.append(value)
        elif top.mapping is not None and top.key is not None:
            keys = (*top.keys, top.key)
            if not top.skip:
                top.mapping[top.key] = value
            top.key = None
        else:
            self._stop(mark, "a key is not a plain name.", "Write a name before the colon.")
        self._document.value_marks.setdefault(keys, mark)
        return keys

    def _check_properties(
        self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, mark: Mark
    ) -> None:
        if event.anchor is not None:
            self._refuse(mark, "has an anchor (&), which is not allowed.", "Remove it.")
        if event.tag is not None and event.tag != "!":
            what = f"has the tag {shortened(event.tag)}, which is not allowed."
            self._refuse(mark, what, "Write the plain value.")

    def _count(self, mark: Mark) -> None:
        self._value_count += 1
        if self._value_count > VALUE_LIMIT:
            what = f"the file holds more than {VALUE_LIMIT:,} keys and values."
            self._stop(mark, what, "Name fewer shares and groups.")

    def _where(self) -> Keys:
        if not self._stack:
            return ()
        top = self._stack[-1]
        if top.sequence is not None:
            return (*top.keys, len(top.sequence))
        return top.keys if top.key is None else (*top.keys, top.key)

    def _refuse(self, mark: Mark, message: str, remedy: str) -> None:
        self._document.problems.append(self._document.problem(mark, self._where(), message, remedy))

    def _stop(self, mark: Mark, message: str, remedy: str) -> NoReturn:
        self._refuse(mark, message, remedy)
        raise _StopReading
