"""XML bodies: read without DTDs or entities, taken apart into plain records, written escaped.

Expat (through defusedxml) stops at the first sign of a DTD, whatever the encoding. Imports only
the shared model and ``messages``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from gateway.model import PropertyName
from gateway.webdav.messages import HttpError

DAV: Final = "DAV:"

PROPERTY_COUNT_LIMIT: Final = 500
"""How many properties one request may name."""

_DECLARED_ENCODING = re.compile(rb"""^<\?xml[^>]{0,64}encoding\s*=\s*["']([^"']{1,40})["']""")
_ENCODINGS: Final = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"utf-16", b"iso-8859-1"})
# XML 1.0 section 2.2; a name may hold what no document can.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a PROPFIND asks for.

    ``every``: all properties, and ``names`` besides; ``names_only``: which there are; else the
    properties in ``names`` alone, in the order asked for.
    """

    every: bool = False
    names_only: bool = False
    names: tuple[PropertyName, ...] = ()


def parse_xml(body: bytes) -> Element:
    """Return the root element of ``body``.

    Raises HttpError 400 for what is not well-formed, carries a DTD, or says an encoding other
    than UTF-8, UTF-16, ASCII or Latin-1.
    """
    declared = _DECLARED_ENCODING.match(body.removeprefix(b"\xef\xbb\xbf"))
    if declared and declared[1].lower() not in _ENCODINGS:
        # One parser checks and another may read: both must see the same characters.
        raise HttpError(400, "The XML body is in an encoding that is not read here.")
    try:
        root: Element = fromstring(body, forbid_dtd=True)
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
