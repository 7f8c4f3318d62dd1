"""Which placement of a residual code's weights retrieves best, at each size?

Lloyd-Max (least squared error), equal mass (as PLAID places its buckets) and ternary with a dead zone (three
weights, 1.6 bits a dimension if five were packed in a byte), beside exact float32, on real collections at
LATEBOLT_DATA: nDCG@10 over queries spread over the collection, cosine of decoded vectors, bytes a token.
Every figure is a mean over codecs trained from several seeds: two codecs of the same kind differ by about as
much as two kinds, because a thousand queries settle nDCG to 0.002 only. `loss_sd` says how much they differ.
The row of random error is float32 vectors turned in random directions until their cosine is that of 4 bits:
what any code of that nearness loses.
"""

from __future__ import annotations

import argparse

import numpy as np

from harness import data_folder, record
from latebolt import Encoder
from latebolt.codec.base import reconstruction_report
from latebolt.codec.residual_codec import ResidualCodec, lloyd_max
from latebolt.evaluate import measure, ranking_of, read_collection
from latebolt.kernels.maxsim import maxsim_arrays

SAMPLE = 196_608
# The last two are Chinese and Japanese, which the starter reads badly; a code must keep even that.
COLLECTIONS = ("squad", "cosqa", "pubmedqa", "drcd", "jsquad")


def equal_mass(residuals: np.ndarray, n: int) -> np.ndarray:
    """The mean of each of n buckets that hold equally many residuals."""
    return np.array([part.mean() for part in np.array_split(np.sort(residuals), n)], np.float32)


def ternary(residuals: np.ndarray, n: int) -> np.ndarray:
    """Three weights: nothing, and one on each side of a dead zone."""
    return lloyd_max(residuals, 3)


RANDOM = "random error as large as 4 bit"
PLACEMENTS = {
    "Lloyd-Max 4 bit": (4, lloyd_max),
    "equal mass 4 bit": (4, equal_mass),
    "Lloyd-Max 2 bit": (2, lloyd_max),
    "equal mass 2 bit": (2, equal_mass),
    "ternary, dead zone": (2, ternary),
    "Lloyd-Max 1 bit": (1, lloyd_max),
}


def turned(values: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """Unit vectors that have this cosine with the given ones, each turned in a random direction."""
    across = np.random.default_rng(seed).standard_normal(values.shape, dtype=np.float32)
    across -= (across * values).sum(axis=1, keepdims=True) * values
    across *= np.float32(np.sqrt(1 - cosine**2)) / np.linalg.norm(across, axis=1, keepdims=True)
    return np.float32(cosine) * values + across


def main() -> None:
    """One row a collection, width and placement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 queries of pubmedqa; keeps no record")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    root = data_folder()
    rows = []
    for name in ("pubmedqa",) if given.quick else COLLECTIONS:
        collection = read_collection(root / name)
        step = max(1, len(collection.queries) // (50 if given.quick else given.queries))
        queries = dict(list(collection.queries.items())[::step])
        names = list(collection.documents)
        for dim in (64,) if given.quick else (128, 64):
            encoder = Encoder.load("starter", dim=dim)
            documents = encoder.encode_documents(list(collection.documents.values()), show_progress=True)
            asked = encoder.encode_queries(list(queries.values()))

            def quality(score, asked=asked, queries=queries, names=names, qrels=collection.qrels) -> float:  # type: ignore[no-untyped-def]
                run = {q: ranking_of(score(m), names) for q, m in zip(queries, asked, strict=True)}
                return measure(run, qrels)["nDCG@10"]

            exact = quality(lambda m, d=documents: maxsim_arrays(m, d.values, d.offsets))
            base = {"collection": name, "dim": dim}
            rows.append(
                {**base, "weights": "exact float32", "nDCG@10": exact, "bytes": 4.0 * dim, "cosine": 1.0}
            )
            for label, (bits, place) in PLACEMENTS.items():
                if place is not lloyd_max and dim == 64 and not given.quick:
                    continue  # compared at one width
                losses, nears = [], []
                for seed in range(1 if given.quick else given.seeds):
                    chosen = np.random.default_rng(seed).permutation(documents.n_tokens)[:SAMPLE]
                    sample = documents.values[chosen]
                    codec = ResidualCodec.train(sample, bits, documents.n_tokens, seed=seed, place=place)
                    columns = codec.encode(documents.values)
                    losses.append(
                        exact
                        - quality(lambda m, c=codec, s=columns, d=documents: c.scorer(m).exact(s, d.offsets))
                    )
                    nears.append(reconstruction_report(codec, documents.values[:20_000]))
                loss, near = float(np.mean(losses)), nears[0]
                size = dim * 1.6 / 8 + 3 if place is ternary else near["bytes_per_token"]
                row = {"weights": label, "nDCG@10": exact - loss, "loss": loss, "bytes": size}
                row["loss_sd"] = float(np.std(losses))
                rows.append({**base, **row, "cosine": near["cosine_mean"], "mse": near["mse"]})
                print(rows[-1], flush=True)
                if label != "Lloyd-Max 4 bit" or dim == 64:
                    continue
                losses = []
                for seed in range(1 if given.quick else given.seeds):
                    values = turned(documents.values, near["cosine_mean"], seed)
                    losses.append(
                        exact - quality(lambda m, v=values, d=documents: maxsim_arrays(m, v, d.offsets))
                    )
                loss = float(np.mean(losses))
                row = {"weights": RANDOM, "nDCG@10": exact - loss, "loss": loss, "bytes": 4.0 * dim}
                row |= {"loss_sd": float(np.std(losses)), "cosine": near["cosine_mean"]}
                rows.append({**base, **row})
                print(rows[-1], flush=True)
    record("codec", rows, ("ir-measures",), given.quick)


if __name__ == "__main__":
    main()
