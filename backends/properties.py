"""Dead properties as they are sealed: one record a node (FORMAT.md section 5). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from backends.errors import IntegrityError, LimitError
from backends.share import Share
from gateway.model import PropertyName

PROPERTIES_LIMIT_BYTES = 64 * 1024
"""The most dead properties a node may carry, as JSON."""


def packed(share: Share, node_id: bytes, properties: Mapping[PropertyName, str]) -> bytes | None:
    """Return the node's properties sealed, None for none; LimitError beyond 64 KiB."""
    if not properties:
        return None
    entries = [[name.namespace, name.local, value] for name, value in properties.items()]
    plain = json.dumps(entries, ensure_ascii=False).encode("utf-8")
    if len(plain) > PROPERTIES_LIMIT_BYTES:
        raise LimitError("The properties of this file exceed 64 KiB; store fewer or shorter ones.")
    return share.records.seal(plain, b"properties" + node_id)


def unpacked(share: Share, node_id: bytes, sealed: bytes | None) -> dict[PropertyName, str]:
    """Return the properties in ``sealed``; IntegrityError when they belong to another node."""
    if sealed is None:
        return {}
    try:
        plain = share.records.unseal(sealed, b"properties" + node_id)
    except IntegrityError as error:
        raise IntegrityError(
            f"The properties of node {node_id.hex()} of share {share.id.hex()} do not verify: the "
            "catalog was edited."
        ) from error
    return {PropertyName(space, local): value for space, local, value in json.loads(plain)}
