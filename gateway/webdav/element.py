"""An element of a request's body as XML text of its own, to be kept and sent back as it came.

lxml, because it keeps a client's prefixes, which values may refer to. Imports ``xml_body``, which
has refused DTDs and entities before lxml sees the body.
"""

from __future__ import annotations

from typing import Final

from lxml import etree  # type: ignore[import-untyped]

from gateway.webdav.messages import HttpError
from gateway.webdav.xml_body import parse_xml

_XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"


def parse_element(body: bytes) -> etree._Element:
    """Return the root element of ``body``; raises as ``xml_body.parse_xml``."""
    parse_xml(body)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise HttpError(400, "The XML body is not well-formed.") from error


def serialised(element: etree._Element) -> str:
    """Return the element alone as XML, with the language that was in force around it."""
    if _XML_LANG not in element.attrib:
        for ancestor in element.iterancestors():
            language = ancestor.get(_XML_LANG)
            if language is not None:
                element.set(_XML_LANG, language)
                break
    return str(etree.tostring(element, encoding="unicode", with_tail=False))
