"""The frozen vectors of FORMAT.md section 12, as the tests read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "vectors"
Case = dict[str, Any]


def loaded(name: str) -> Case:
    """Return one file of vectors."""
    vectors: Case = json.loads((FOLDER / name).read_text("utf-8"))
    return vectors


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test once for each case, under the case's name."""
    ids = [case.get("name") or case.get("label") or case["purpose"] for case in cases]
    return pytest.mark.parametrize("case", cases, ids=[name[:40] for name in ids])


def raw(case: Case, key: str) -> bytes:
    """Return a field of a case as bytes."""
    return bytes.fromhex(case[key])
