"""The storage bill: the published ratio, worked examples of each store, and what cannot be asked."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt import Index, TokenVectors
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.codec.restore import bytes_per_token_of, untrained
from latebolt.cost import Corpus, bills, ours, parse_count, plaid, qdrant
from latebolt.errors import InvalidInput

PUBLISHED = {128: 1319.24, 64: 659.62}  # USD a month for 100 M documents, one vendor's calculator
CORPUS = Corpus(100_000_000, 120)


def at(found, store, dim):
    [one] = [bill for bill in found if (bill.store, bill.dim) == (store, dim)]
    return one


def test_the_published_ratio_and_what_codes_save_beyond_it():
    found = bills(CORPUS, (128, 64), (2,), quoted=PUBLISHED[128])
    for dim, usd in PUBLISHED.items():
        assert at(found, "Qdrant float32", dim).usd_month == pytest.approx(usd, abs=0.005)
    assert at(found, "Qdrant float32", 64).saving == 2
    coded = at(found, "latebolt 2 bit", 64)
    assert coded.saving > 20 and coded.usd_month < PUBLISHED[64] / 10
    assert coded.usd_month == pytest.approx(PUBLISHED[128] / coded.saving)


def test_worked_examples():
    corpus = Corpus(1000, 100)  # 100,000 tokens
    assert qdrant(corpus, 128, 32) == (51.2e6, 0)
    assert qdrant(corpus, 128, 16, factor=1.5) == (25.6e6, 12.8e6)
    # 36 bytes a token at 2 bits (ColBERTv2); 16 * sqrt(100,000) = 5060, so 4,096 centroids of 256 bytes.
    assert plaid(corpus, 128, 2) == (3.6e6, 4e5 + 4096 * 256)
    vectors, rest = ours(corpus, 64, 8)
    assert vectors == 1e5 * untrained(64, 8).bytes_per_token() and rest == 8000
    [first, *_] = bills(corpus, (128,), (2,), price_gb_month=2.0)
    assert first.usd_month == pytest.approx(0.0512 * 2)


@pytest.mark.parametrize("bits", (1, 2, 4))
@pytest.mark.parametrize("dim", (64, 128))
def test_our_bytes_are_the_codecs(rng, dim, bits):
    codec = ResidualCodec.train(rng.unit(400, dim), bits)
    columns = codec.encode(rng.unit(10, dim))
    stored = sum(np.asarray(column).nbytes for column in columns.values()) / 10
    assert bytes_per_token_of(dim, bits, 10**10) == codec.bytes_per_token() == stored


def test_our_bill_is_near_a_real_index(tmp_path, encoder, rng):
    """Nothing that grows with the tokens is forgotten: all files but the texts' are within the bill."""
    index = Index.create(tmp_path / "i", encoder, bits=2)
    vectors = TokenVectors(rng.unit(300 * 120, encoder.dim), np.arange(301) * 120)
    index.add_vectors([f"note {i}" for i in range(300)], vectors)
    index.compact()
    tokens = index.info()["tokens"]
    files = (tmp_path / "i").rglob("*.npy")
    on_disk = sum(path.stat().st_size for path in files)
    vectors, rest = ours(Corpus(300, tokens / 300), encoder.dim, 2)
    assert vectors <= on_disk <= 1.3 * (vectors + rest)


def test_plaid_is_shown_where_it_has_the_bits():
    stores = {bill.store for bill in bills(CORPUS, (128,), (16, 4))}
    assert stores == {"Qdrant float32", "Qdrant float16", "PLAID 4 bit", "latebolt 4 bit", "latebolt 16 bit"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dims": ()}, "dims"),
        ({"dims": (100,)}, "multiples of 8"),
        ({"bits": (3,)}, "bits should be some of 1, 2, 4, 8, 16"),
        ({"price_gb_month": -1}, "price of a GB"),
        ({"quoted": float("nan")}, "quoted bill"),
        ({"price_gb_month": 1, "quoted": 1}, "not both"),
        ({"qdrant_factor": 0.5}, "at least 1"),
    ],
)
def test_what_cannot_be_asked(given, message):
    with pytest.raises(InvalidInput, match=message):
        bills(CORPUS, **given)
    with pytest.raises(InvalidInput, match="at least one document"):
        Corpus(0, 120)


def test_counts():
    assert [parse_count(text) for text in ("7", "2.5k", "100M", "1B", "1,000", "1_000")] == [
        7,
        2500,
        10**8,
        10**9,
        1000,
        1000,
    ]
    for text in ("", "-1", "1e9", "many", "1MM"):
        with pytest.raises(InvalidInput, match="100M"):
            parse_count(text)
