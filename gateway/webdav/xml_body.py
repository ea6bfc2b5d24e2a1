"""XML bodies: read without DTDs or entities, taken apart into plain records, written escaped.

Expat (through defusedxml) stops at the first sign of a DTD, whatever the encoding. Imports only
the shared model and ``messages``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from gateway.model import PropertyName
from gateway.webdav.messages import HttpError

DAV: Final = "DAV:"

PROPERTY_COUNT_LIMIT: Final = 500
"""How many properties one request may name."""

ELEMENT_COUNT_LIMIT: Final = 10_000
"""How many elements one body may hold: a megabyte of empty ones would take 100 MB to keep."""

ELEMENT_DEPTH_LIMIT: Final = 100
"""How deep they may be nested; libxml2, which reads some bodies again, stops at 256."""

_DECLARED_ENCODING = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([^"']*)""")
_ENCODINGS: Final = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"utf-16", b"iso-8859-1"})
_UTF_8: Final = frozenset({b"utf-8", b"utf8"})
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# XML 1.0 section 2.2; a name may hold what no document can.
_UNWRITABLE_SET: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff"
_UNWRITABLE = re.compile(f"[{_UNWRITABLE_SET}]")
_TO_ESCAPE = re.compile(f'[&<>"{_UNWRITABLE_SET}]')


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a PROPFIND asks for.

    ``every``: all properties, and ``names`` besides; ``names_only``: which there are; else the
    properties in ``names`` alone, in the order asked for.
    """

    every: bool = False
    names_only: bool = False
    names: tuple[PropertyName, ...] = ()


class _BoundedTree(TreeBuilder):
    """Builds the tree of a body until it is too large."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        """Add an element; HttpError 413 beyond the limits."""
        self._count += 1
        self._depth += 1
        if self._count > ELEMENT_COUNT_LIMIT or self._depth > ELEMENT_DEPTH_LIMIT:
            raise HttpError(413, "The XML body holds too many elements.")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """Close the element that was added last."""
        self._depth -= 1
        return super().end(tag)


def parse_xml(body: bytes) -> Element:
    """Return the root element of ``body``.

    Raises HttpError 400 for what is not well-formed, carries a DTD, or says an encoding other
    than UTF-8, UTF-16, ASCII or Latin-1; 413 for too many or too deeply nested elements.
    """
    bare = body.removeprefix(_BYTE_ORDER_MARK)
    declared = _DECLARED_ENCODING.match(bare)
    known = _ENCODINGS if len(bare) == len(body) else _UTF_8
    if declared and declared[1].lower() not in known:
        # One parser checks and another may read: both must see the same characters.
        raise HttpError(400, "The XML body is in an encoding that is not read here.")
    parser = DefusedXMLParser(target=_BoundedTree(), forbid_dtd=True)
    try:
        parser.feed(body)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise HttpError(400, "An XML body may not hold a DTD or entities.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise HttpError(400, "The XML body is not well-formed.") from error
    return root


def parse_propfind(body: bytes) -> Wanted:
    """Return what a PROPFIND body asks for (RFC 4918 section 14.20); empty means allprop.

    Raises HttpError 400 when the body is not a propfind element, or asks for nothing.
    """
    if not body:
        return Wanted(every=True)
    root = parse_xml(body)
    if root.tag != "{DAV:}propfind":
        raise HttpError(400, "The body of a PROPFIND is not a propfind element.")
    parts = {child.tag: child for child in root if str(child.tag).startswith("{DAV:}")}
    kinds = parts.keys() & {"{DAV:}allprop", "{DAV:}propname", "{DAV:}prop"}
    if len(kinds) != 1:
        raise HttpError(400, "A propfind holds one of allprop, propname and prop.")
    if "{DAV:}propname" in parts:
        return Wanted(names_only=True)
    if "{DAV:}prop" in parts:
        return Wanted(names=_names(parts["{DAV:}prop"]))
    include = parts.get("{DAV:}include")
    return Wanted(every=True, names=() if include is None else _names(include))


def property_name(tag: str) -> PropertyName:
    """Return the expanded name that ElementTree and lxml write as ``{namespace}local``."""
    if tag.startswith("{"):
        namespace, _, local = tag[1:].rpartition("}")
        return PropertyName(namespace, local)
    return PropertyName("", tag)


def escape(text: str) -> str:
    """Return ``text`` as XML character data, fit for attribute values too."""
    if not _TO_ESCAPE.search(text):
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _UNWRITABLE.sub("\ufffd", text.replace('"', "&quot;"))


def empty_element(name: PropertyName) -> str:
    """Return an empty element of that name; every element but those in no namespace prefixed."""
    if name.namespace == DAV:
        return f"<D:{name.local}/>"
    if not name.namespace:
        return f"<{name.local}/>"
    return f'<x:{name.local} xmlns:x="{escape(name.namespace)}"/>'


def _names(element: Element) -> tuple[PropertyName, ...]:
    if len(element) > PROPERTY_COUNT_LIMIT:
        raise HttpError(413, f"More than {PROPERTY_COUNT_LIMIT} properties are named.")
    names = dict.fromkeys(property_name(str(child.tag)) for child in element)
    return tuple(names)
