"""Does memory stay flat while the int8 encoder reads texts of every length, for as long as one likes?

Resident memory after every 1,000 of 20,000 texts. Each is made of two of `encode.texts`, cut after a random
number of characters, so that lengths run from a few tokens to the model's 512. Vectors are dropped as they
come: what grows is the runtime's. The run fails when the last quarter's most is
MOST_MB above the second's.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

import encode
from harness import arguments, child, record, status_mb

TEXTS, STEP = 20_000, 1_000
QUICK_TEXTS, QUICK_STEP = 400, 50
MOST_CHARACTERS = 2_500
MOST_MB = 10.0


def run_child(threads: int, quick: bool) -> None:
    """Print the rows as JSON: texts read so far, tokens so far, resident MB, seconds so far."""
    from latebolt import Encoder

    n, step = (QUICK_TEXTS, QUICK_STEP) if quick else (TEXTS, STEP)
    encoder = Encoder.load(precision="int8", threads=threads)
    encoder.warmup()
    some = encode.texts(n)
    generator = np.random.default_rng(0)
    rows, tokens, start = [], 0, time.perf_counter()
    for done in range(step, n + 1, step):
        ends = generator.integers(10, MOST_CHARACTERS, step)
        pairs = generator.choice(len(some), (step, 2))
        mixed = [f"{some[a]} {some[b]}"[:end] for (a, b), end in zip(pairs, ends, strict=True)]
        tokens += encoder.encode_documents(mixed).n_tokens
        row = {"texts": done, "tokens": tokens, "resident_MB": status_mb("VmRSS")}
        rows.append(row | {"seconds": time.perf_counter() - start})
        print(row, file=sys.stderr, flush=True)
    print(json.dumps(rows))


def growth_mb(rows: list[dict[str, float]]) -> float:
    """How much more is resident at most in the last quarter than at most in the second."""
    resident = [row["resident_MB"] for row in rows]
    quarter = max(1, len(resident) // 4)
    return max(resident[-quarter:]) - max(resident[quarter : 2 * quarter])


def main() -> None:
    """One child, one record, and a verdict."""
    given = arguments(__doc__)
    if given.child:
        run_child(given.threads, given.quick)
        return
    rows = child(__file__, ["--quick"] if given.quick else [], given.threads)
    record("encode_memory", rows, quick=given.quick)
    growth = growth_mb(rows)
    print(f"second to last quarter: {growth:+.1f} MB")
    if not given.quick and growth > MOST_MB:
        sys.exit(f"encode_memory: resident memory should grow by at most {MOST_MB:g} MB, got {growth:.1f}.")


if __name__ == "__main__":
    main()
