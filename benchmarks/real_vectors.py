"""Token vectors of real passages and of questions about them, once for all that is measured on them.

`python benchmarks/passages.py FOLDER` makes the passages; `python benchmarks/real_vectors.py FOLDER` encodes
them with the built-in model, goes on where it was stopped, and leaves what `real_scale.py` reads:

    documents.f16   float16 [n_tokens, 128], as bytes without a header; offsets.npy int64 [n_documents + 1]
    length_queries.npy, length_starts.npy   questions of LENGTHS words, OF_A_LENGTH each (as `search.py`)
    queries.npy, starts.npy, answers.npy, kinds.json   questions with a known answer
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from latebolt import Encoder
from search import OF_A_LENGTH, questions

DIM = 128
CHUNK = 8192  # passages encoded at a time, in whose order they are written


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    encode(given.folder)


def encode(folder: Path) -> None:
    """Write what is not there yet."""
    texts = (folder / "passages.txt").read_text("utf-8").splitlines()
    encoder = Encoder.load("starter", dim=DIM)
    asked = [json.loads(line) for line in (folder / "questions.jsonl").read_text("utf-8").splitlines()]
    known = encoder.encode_queries([question["text"] for question in asked])
    np.save(folder / "queries.npy", known.values)
    np.save(folder / "starts.npy", known.offsets)
    np.save(folder / "answers.npy", [question["passage"] for question in asked])
    (folder / "kinds.json").write_text(json.dumps([question["kind"] for question in asked]))
    of_lengths = encoder.encode_queries(questions(texts, OF_A_LENGTH))
    np.save(folder / "length_queries.npy", of_lengths.values)
    np.save(folder / "length_starts.npy", of_lengths.offsets)
    lengths_file = folder / "lengths.i32"
    lengths = np.fromfile(lengths_file, np.int32) if lengths_file.exists() else np.zeros(0, np.int32)
    done = len(lengths) // CHUNK * CHUNK if len(lengths) < len(texts) else len(texts)
    mode = "r+b" if done else "wb"
    with (folder / "documents.f16").open(mode) as vectors, lengths_file.open(mode) as counted:
        vectors.truncate(int(lengths[:done].sum()) * DIM * 2)
        counted.truncate(4 * done)
        vectors.seek(0, os.SEEK_END)
        counted.seek(0, os.SEEK_END)
        for first in range(done, len(texts), CHUNK):
            found = encoder.encode_documents(texts[first : first + CHUNK])
            vectors.write(found.values.astype(np.float16).tobytes())
            vectors.flush()
            counted.write(np.diff(found.offsets).astype(np.int32).tobytes())
            counted.flush()
            if first % (8 * CHUNK) == 0:
                print(f"{first + len(found)} of {len(texts)} passages", flush=True)
    lengths = np.fromfile(lengths_file, np.int32)
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    print(f"{len(lengths)} passages, {int(lengths.sum())} tokens")


if __name__ == "__main__":
    main()
