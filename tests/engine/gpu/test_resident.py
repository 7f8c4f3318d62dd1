"""What lies on a device and where, decided without one: layouts, sizes, which GPU, which documents."""

from __future__ import annotations

import numpy as np
import pytest

import latebolt
from latebolt.codec.plain import Float16Codec, Int8Codec
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.gpu import cuda, layout
from latebolt.gpu.maxsim import stretches
from latebolt.gpu.resident import most_blocks, resident_bytes, spread, why_not
from latebolt.gpu.search import below, kth, launches


@pytest.mark.parametrize(("dim", "bits"), [(128, 2), (40, 1), (24, 4), (96, 2), (64, 1)])
def test_every_dimension_has_one_place_and_padding_none(dim, bits):
    places = layout.dimensions(dim, bits)
    assert places.shape == (4, layout.padded_dim(dim, bits) // 16, 4)
    assert sorted(places[places >= 0].tolist()) == list(range(dim))
    codes = np.arange(3 * dim * bits // 8, dtype=np.uint8).reshape(3, -1)
    placed = layout.place_codes(codes, dim, bits)
    assert placed.shape[1] % 16 == 0  # a whole word for each of four threads
    np.testing.assert_array_equal(placed[:, : codes.shape[1]], codes)
    assert not placed[:, codes.shape[1] :].any()


def test_usual_widths_lie_as_in_the_file():
    for dim, bits in [(128, 1), (128, 2), (64, 2), (96, 4), (128, 4), (768, 2)]:
        assert layout.padded_dim(dim, bits) == dim


def test_each_thread_has_eight_query_tokens_side_by_side():
    tokens = [[layout.query_of_column(tile, column) for column in range(8)] for tile in range(4)]
    assert sorted(token for tile in tokens for token in tile) == list(range(32))
    for thread in range(4):
        mine = [tokens[tile][2 * thread + j] for tile in range(4) for j in (0, 1)]
        assert mine == list(range(8 * thread, 8 * thread + 8))


def codec_of(dim, bits, n_centroids=8):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4 * n_centroids, dim)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return ResidualCodec.train(values, bits, n_centroids=n_centroids)


def test_bytes_that_an_index_takes():
    # 10 million passages of 60 tokens, of 128 dimensions and 2 bits: 32 of codes, 2 and 1 a token
    codec = codec_of(128, 2)
    n_tokens, n_docs = 600_000_000, 10_000_000
    assert resident_bytes(codec, n_tokens, n_docs) == n_tokens * 35 + 8 * (n_docs + 1) + n_docs // 8
    assert resident_bytes(Float16Codec(128), 10, 2) == 10 * 256 + 3 * 8 + 4


def test_which_vectors_have_a_kernel():
    assert why_not(codec_of(16, 2)) is None and why_not(Float16Codec(16)) is None
    assert "8 bits" in why_not(Int8Codec(16))
    assert [most_blocks(dim) for dim in (128, 384, 768, 1280, 2048)] == [4, 2, 1, 1, 0]


def test_segments_go_where_there_is_least_and_room():
    assert spread([5, 3, 4], [100, 100], [0, 0]) == [0, 1, 1]
    assert spread([5], [100, 100], [50, 0]) == [1]
    assert spread([5, 5], [6, 100], [0, 50]) == [0, 1]  # the second no longer fits where less is
    assert spread([5, 200], [6, 100], [0, 0]) == [0, -1]
    assert spread([], [1], [0]) == []


def test_blocks_of_queries_are_scored_together():
    def numbers(n_blocks, most):
        return [[(b.query, b.number) for b in some] for some in launches(n_blocks, most)]

    assert numbers([1, 1, 1], 4) == [[(0, 0), (1, 0), (2, 0)]]
    assert numbers([3, 2], 2) == [[(0, 0), (0, 1)], [(0, 2), (1, 0)], [(1, 1)]]
    ends = [(b.first, b.last) for some in launches([3, 1], 2) for b in some]
    assert ends == [(True, False), (False, False), (False, True), (True, True)]


def test_the_least_score_of_the_best():
    maxima = np.array([1, 5, 3, -np.inf], np.float32)
    assert [kth(maxima, k) for k in (1, 2, 4, 5)] == [5, 3, -np.inf, -np.inf]
    for value in (1 / 3, -1 / 3, 20.1):
        assert float(below(value)) <= value
    assert below(-np.inf) == -np.inf


def test_documents_are_copied_in_stretches():
    offsets = np.array([0, 3, 3, 10, 11])
    assert stretches(offsets, 4) == [(0, 2), (2, 3), (3, 4)]
    assert stretches(offsets, 100) == [(0, 4)]
    assert stretches(np.zeros(1, np.int64), 4) == []


VECTORS = np.eye(8, dtype=np.float32)


def test_without_numba_cuda_the_way_out_is_named(monkeypatch):
    pretend(monkeypatch, 0)
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailable, match=r"numba-cuda is not installed\. Run \"pip install 'lateb"):
        latebolt.maxsim(VECTORS, [VECTORS], device="cuda")


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module"), AttributeError("no NPDatetime")])
def test_numba_that_is_missing_or_does_not_fit_is_told(monkeypatch, error):
    def absent(name):
        raise error

    monkeypatch.setattr(cuda.importlib, "import_module", absent)
    with pytest.raises(RuntimeUnavailable, match=rf"imported \({error}\)\. Run \"pip install -U 'latebolt"):
        latebolt.maxsim(VECTORS, [VECTORS], device="cuda")


class FakeNumba:
    """numba.cuda as far as it is asked whether there is a GPU; of the real module's names."""

    class _Device:
        compute_capability = (7, 5)

    def __init__(self, n_gpus):
        self.gpus = [self._Device()] * n_gpus

    def is_available(self):
        return bool(self.gpus)

    def cuda_error(self):
        return "CUDA driver library cannot be found.\nEnsure that a driver is installed."


def pretend(monkeypatch, n_gpus):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: object())
    real, fake = cuda.importlib.import_module, FakeNumba(n_gpus)
    monkeypatch.setattr(
        cuda.importlib, "import_module", lambda name: fake if name == "numba.cuda" else real(name)
    )


def test_a_gpu_without_the_tensor_cores_that_codes_need(monkeypatch, tmp_path):
    pretend(monkeypatch, 2)
    index = latebolt.Index.create(tmp_path / "i", None, dim=8, device="cuda:1")
    match = r"cuda:1: has compute capability 7\.5, .* needs 8\.0 \(Ampere\) or newer\. To have only the model"
    with pytest.raises(RuntimeUnavailable, match=match):
        index.search_vectors(VECTORS)
    assert str(cuda.Gpu(1)) == "cuda:1"  # whole vectors do without


@pytest.mark.parametrize(
    ("n_gpus", "device", "match"),
    [
        (0, "cuda", r"finds no GPU or no driver \(CUDA driver library cannot be found\. Ensure .*doctor"),
        (1, "cuda:2", r"there is no cuda:2 here, only cuda:0\. Name one of these"),
    ],
)
def test_gpus_that_cannot_be_used(monkeypatch, n_gpus, device, match):
    pretend(monkeypatch, n_gpus)
    with pytest.raises(RuntimeUnavailable, match=match):
        latebolt.maxsim(VECTORS, [VECTORS], device=device)


def test_other_words_than_devices_are_refused():
    with pytest.raises(InvalidInput, match='device should be "cpu"'):
        latebolt.maxsim(VECTORS, [VECTORS], device="gpu")
    assert latebolt.maxsim(VECTORS, [VECTORS], device="auto")[0] == 8
