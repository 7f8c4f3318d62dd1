"""Four Python calls and what they do: a small index that adapters' tests search."""

from __future__ import annotations

import os
from pathlib import Path

from latebolt import Encoder, Index

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when Haystack is imported

TEXTS = {
    "zip": "ZipFile.extractall unpacks an archive",
    "split": "str.split cuts a text at whitespace",
    "spawn": "subprocess.run starts another program and waits",
    "json": "json.loads reads an object from a text",
}
METADATA = {
    "zip": {"since": 2003, "kind": "method", "tags": ["file", "zip"], "home": {"module": "zipfile"}},
    "split": {"since": 1994, "kind": "method", "tags": ["text"]},
    "spawn": {"since": 2015, "kind": "function", "home": {"module": "subprocess"}, "note": None},
    "json": {"since": 2008, "kind": "function", "draft": True},
}
QUERY = "how do I unpack a zip file"


def index_of_calls(folder: Path, encoder: Encoder) -> Index:
    index = Index.create(folder, encoder, bits=4)
    index.add(list(TEXTS.values()), ids=list(TEXTS), metadata=list(METADATA.values()))
    return index
