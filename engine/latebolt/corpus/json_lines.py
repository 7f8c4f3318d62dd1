"""Documents as lines of JSON, of which `read_documents` makes the same documents again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec


def json_line(id: str, text: str | None, metadata: Mapping[str, Any] | None) -> bytes:
    """One document with its line's end. Without a text it is null, which no reader takes for one."""
    record = {"id": id, "text": text, **({} if metadata is None else {"metadata": metadata})}
    try:
        return msgspec.json.encode(record) + b"\n"
    except OverflowError:  # of an integer beyond 64 bits
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
