"""Codes by the device's graphs, here on ONNX Runtime's CPU provider, are those of the kernels but for ties.

A tie is proven from the definition in float64: both choices are equally good within the stated rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnxruntime
import pytest

from late_imports import late_imports
from latebolt.codec.coding import KERNELS, Placed
from latebolt.codec.kmeans import spherical_kmeans
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.devices import CPU, CUDA_PROVIDER, Device
from latebolt.errors import InvalidInput, OutOfMemory, RuntimeUnavailable
from latebolt.gpu import device_graphs
from latebolt.gpu.codes import Centroids, DeviceCoding
from latebolt.gpu.finding import make_ready
from latebolt.kernels.centroids import centroid_levels

if TYPE_CHECKING:  # which imports numba
    from latebolt.kernels.programs.encode_residual import LENGTH_COUNTS, ROUNDS

late = late_imports(globals())

# Sums of 128 products of float32, in whichever order: of scores, of a residual over its width, of errors.
ROUNDING = 2e-6
# A matrix product in TF32, by which a GPU chooses among centroids of one part: both factors are rounded to 10
# bits after the leading one, so a product of unit vectors moves by at most 2^-10, and two by twice that.
TF32 = 2.0**-9
EDGE = 1e-5  # as near x may lie to an edge between two codes, of numbers up to 4, for both codes to be a tie


def clustered(rng, n: int, dim: int, n_centres: int = 64) -> np.ndarray:
    """Token vectors as real ones lie: around centres, not evenly."""
    values = rng.unit(n_centres, dim)[rng.integers(0, n_centres, n)] + 0.5 * rng.unit(n, dim)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


class Compared(NamedTuple):
    """Vectors whose codes differ, each a tie: in the centroid, in a code, in the number of factors alone."""

    cells: int
    codes: int
    norms: int


def compare(
    codec: ResidualCodec, values: np.ndarray, found, expected, rounding: float = ROUNDING
) -> Compared:
    """Count differences between a device's columns and the kernels', and prove each a tie.

    Args:
        rounding: of the scores by which the device chooses among centroids of one part.
    """
    assert {name: (a.dtype, a.shape) for name, a in found.items()} == {
        name: (a.dtype, a.shape) for name, a in expected.items()
    }
    cells = {name: columns["cell"].astype(np.int64) for name, columns in
             (("found", found), ("expected", expected))}  # fmt: skip
    scores = values.astype(np.float64) @ codec.centroids.T.astype(np.float64)
    taken = {name: np.take_along_axis(scores, each[:, None], 1)[:, 0] for name, each in cells.items()}
    # The device's centroid is the nearest within its rounding; the kernels' within that of bytes.
    assert (scores.max(1) - taken["found"]).max() <= rounding
    other = cells["found"] != cells["expected"]
    assert (np.abs(taken["found"] - taken["expected"]) <= rounding + byte_rounding(codec, values))[
        other
    ].all()
    differ = ~other & (found["codes"] != expected["codes"]).any(1)
    assert at_an_edge(codec, values[differ], cells["found"][differ]).all()
    norms = ~other & ~differ & (found["norm"] != expected["norm"])
    errors = [errors_of(codec, values[norms], columns, norms) for columns in (found, expected)]
    assert (np.abs(errors[0] - errors[1]) <= ROUNDING).all()
    return Compared(*(int(each.sum()) for each in (other, differ, norms)))


def byte_rounding(codec: ResidualCodec, values: np.ndarray) -> np.ndarray:
    """The most by which scores of two centroids can move against each other as `kernels.centroids.nearest`
    rounds vectors to 127 steps, and centroids to 63."""
    scaled = np.abs(values * centroid_levels(codec.centroids).spread).astype(np.float64)
    step = scaled.max(1) / 127
    return 2 * (scaled.sum(1) * 0.5 / 63 + values.shape[1] * 0.5 * step)


def at_an_edge(codec: ResidualCodec, values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Whether, of each vector, some x came as near to an edge as rounding can decide in any of the rounds."""
    residual = values.astype(np.float64) - codec.centroids[cells]
    scaled = residual / codec.spread
    edges = (codec.weights[1:] + codec.weights[:-1]) / 2
    width = np.sqrt((scaled**2).mean(1)) / codec.unit
    near = np.zeros(len(values), bool)
    for round_ in range(ROUNDS + 1):
        x = scaled / np.maximum(width, 1e-6)[:, None]
        reach = EDGE * np.maximum(np.abs(edges), 1)
        near |= (np.abs(x[:, :, None] - edges) <= reach).any((1, 2))
        if round_ < ROUNDS:
            coded = codec.weights[np.searchsorted(edges, x)] * codec.spread
            width = (residual * coded).sum(1) / np.maximum((coded**2).sum(1), 1e-30)
    return near


def errors_of(codec: ResidualCodec, values: np.ndarray, columns, rows: np.ndarray) -> np.ndarray:
    """What `encode_residual_reference` chooses the least of, for the pairs of factors that were chosen."""
    columns = {name: column[rows] for name, column in columns.items()}
    centres = codec.centroids[columns["cell"]].astype(np.float64)
    share, norm = codec.factors[columns["norm"]].T[:, :, None].astype(np.float64)
    coded = codec.decode({**columns, "norm": np.zeros_like(columns["norm"])})
    first = codec.factors[0].astype(np.float64)
    added = (coded - first[0] * centres) / first[1]
    basis = np.stack([centres, added], 1)
    best = np.linalg.solve(basis @ basis.transpose(0, 2, 1), basis @ values[:, :, None])[:, :, 0]
    direction = (best[:, :, None] * basis).sum(1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    apart = direction - (share * centres + norm * added)
    return (apart**2).sum(1) + float(LENGTH_COUNTS) * (apart * direction).sum(1) ** 2


@pytest.fixture(scope="module")
def coding() -> DeviceCoding:
    return DeviceCoding(CPU)


@pytest.mark.parametrize("bits", (1, 2, 4))
@pytest.mark.parametrize("dim", (64, 96, 128))
def test_the_kernels_codes_but_for_ties(rng, coding, bits, dim):
    values = clustered(rng, 2000, dim)
    codec = ResidualCodec.train(values, bits, n_centroids=251)  # the last part is filled up
    expected, found = codec.encode(values), codec.on(coding).encode(values)
    differences = compare(codec, values, found, expected)
    # Bytes miss the nearest of some 0.4 %; codes and factors differ for one vector in thousands.
    assert differences.cells <= 40 and differences.codes <= 4 and differences.norms <= 6


def test_a_difference_that_is_no_tie_is_noticed(rng, coding):
    values = clustered(rng, 200, 64)
    codec = ResidualCodec.train(values, 2)
    expected = codec.encode(values)
    for name in expected:
        found = {key: column.copy() for key, column in codec.on(coding).encode(values).items()}
        found[name][7:9] = (found[name][7:9] + 3) % 40
        with pytest.raises(AssertionError):
            compare(codec, values, found, expected)


def test_codes_of_an_extended_codec_and_numbers_of_32_bits(rng, coding):
    values = clustered(rng, 1500, 64)
    codec = ResidualCodec.train(values[:1000], 2)
    extended = codec.on(coding).extended(values[1000:], 40)
    assert extended._coding is coding and len(extended.centroids) > len(codec.centroids)
    compare(extended, values, extended.encode(values), extended.on(KERNELS).encode(values))
    many = np.concatenate([rng.unit(65_531, 64), codec.centroids])
    assert len(many) % 8 and len(many) > 65_536
    large = ResidualCodec(many, codec.levels, codec.spread, codec.factors, 2, codec.unit, codec.far)
    expected, found = large.encode(values[:60]), large.on(coding).encode(values[:60])
    assert found["cell"].dtype == np.uint32 and found["cell"].max() > 65_535
    compare(large, values[:60], found, expected)


@pytest.mark.parametrize("n", (0, 1, 9))
def test_few_vectors_and_fewer_centroids_than_parts(rng, coding, n):
    values = rng.unit(9, 16)
    codec = ResidualCodec.train(values, 2)
    assert len(codec.centroids) < 8
    compare(codec, values[:n], codec.on(coding).encode(values[:n]), codec.encode(values[:n])) if n else None
    assert len(codec.on(coding).encode(values[:n])["codes"]) == n
    zeros = np.zeros((2, 16), np.float32)  # no residual has a width, and no direction is nearest
    np.testing.assert_array_equal(codec.on(coding).encode(zeros)["cell"], codec.encode(zeros)["cell"])


@pytest.mark.parametrize("dtype", (np.float32, np.float16))
def test_vectors_that_lie_on_the_device(rng, coding, dtype):
    values = clustered(rng, 1000, 64).astype(dtype)
    codec = ResidualCodec.train(values.astype(np.float32), 2).on(coding)
    expected = codec.encode(values.astype(np.float32))
    # Three blocks of this size, so that the second begins in the middle of what lies there.
    small = codec.on(DeviceCoding(CPU, budget=400 * bytes_a_token(codec)))
    given = onnxruntime.OrtValue.ortvalue_from_numpy(values)
    for name, column in small.encode(Placed(given)).items():
        np.testing.assert_array_equal(column, expected[name])
    # As an encoder leaves them: texts one under the other, of which some tokens are not kept.
    padded = onnxruntime.OrtValue.ortvalue_from_numpy(values.reshape(10, 100, 64))
    kept = np.flatnonzero(rng.random(1000) < 0.9)
    for name, column in small.encode(Placed(padded, kept)).items():
        np.testing.assert_array_equal(column, expected[name][kept])
    on_host, kernels = values.astype(np.float32)[kept], codec.on(KERNELS)
    np.testing.assert_array_equal(
        kernels.encode(Placed(padded, kept))["codes"], kernels.encode(on_host)["codes"]
    )


def bytes_a_token(codec: ResidualCodec) -> int:
    """As the coding reckons them, once the centroids are known."""
    return 4 * 6 * (codec.dim + 256)


def test_vectors_of_another_kind_are_refused(coding, rng):
    codec = ResidualCodec.train(rng.unit(50, 16), 2).on(coding)
    with pytest.raises(InvalidInput, match=r"float32 or float16 on cpu, got tensor\(double\) on cpu"):
        codec.encode(Placed(onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((3, 16)))))


class Watched(DeviceCoding):
    """A coding that notes how many vectors each run had, and fails as a device does above so many."""

    def __init__(self, most: int, budget: int) -> None:
        self.most, self.rows = most, []
        super().__init__(CPU, budget)

    def run(self, graph, inputs, outputs, stay=False):
        values = inputs["values"]
        n = values.shape[0] if isinstance(values, device_graphs.View) else values.shape()[0]
        if n > self.most:
            raise RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : BFCArena: Failed to allocate memory for requested buffer"
            )
        self.rows.append(n)
        return super().run(graph, inputs, outputs, stay)


def test_blocks_keep_to_the_budget_and_shrink_where_memory_is_short(rng, caplog):
    values = clustered(rng, 1000, 64)
    codec = ResidualCodec.train(values, 2)
    assert len(codec.centroids) == 250  # whose scores, with candidates, are 5096 bytes a token
    budget = 300 * bytes_a_token(codec)
    expected = codec.on(DeviceCoding(CPU)).encode(values)
    for most, nearest, codes in (
        (1000, [452, 452, 96], [300, 300, 300, 100]),
        (300, [*[226] * 4, 96], [*[149] * 6, 106]),
        (150, [*[113] * 8, 96], [*[74] * 13, 38]),
    ):
        watched = Watched(most, budget)
        for name, column in codec.on(watched).encode(values).items():
            np.testing.assert_array_equal(column, expected[name])
        assert watched.rows == nearest + codes
        watched.rows.clear()
        codec.on(watched).encode(values[:10])
        assert watched.rows == [10, 10]
    assert [record.getMessage() for record in caplog.records] == [
        f'device "cpu": little memory; now {n} token vectors at a time' for n in (226, 226, 113)
    ]
    with pytest.raises(OutOfMemory, match=r'device "cpu": .* MB more at a time\. .* device="cpu"'):
        codec.on(Watched(100, budget)).encode(values)


def test_what_does_not_even_fit_there_is_told(rng, coding, monkeypatch):
    codec = ResidualCodec.train(rng.unit(50, 16), 2).on(coding)
    refusal = RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size)")
    monkeypatch.setattr(
        onnxruntime.OrtValue, "ortvalue_from_numpy", lambda *_: (_ for _ in ()).throw(refusal)
    )
    for use in (codec.encode, codec.outlying, lambda values: coding.points(lambda: [values]).sums(values)):
        with pytest.raises(OutOfMemory, match=r'device "cpu": .* device="cpu"'):
            use(rng.unit(3, 16))


def test_other_errors_stay_what_they_are(rng, coding, monkeypatch):
    codec = ResidualCodec.train(rng.unit(50, 16), 2).on(coding)
    monkeypatch.setattr(coding, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        codec.encode(rng.unit(3, 16))


def test_centroids_are_loaded_once(rng, coding):
    values = rng.unit(300, 16)
    codec = ResidualCodec.train(values, 2)
    assert codec.on(coding)._coder is codec.on(coding)._coder
    other = ResidualCodec.train(values[:200], 2)
    assert codec.on(coding)._coder is not other.on(coding)._coder
    assert codec.on(coding).reads(codec) and codec.on(KERNELS) is codec


def test_kmeans_on_the_device_assigns_alike(rng, coding):
    values = clustered(rng, 3000, 64, n_centres=200)
    found = spherical_kmeans(values, 61, coding=coding)
    expected = spherical_kmeans(values, 61)
    near = [float((values @ centroids.T).max(1).mean()) for centroids in (found, expected)]
    assert found.shape == expected.shape and near[0] == pytest.approx(near[1], abs=2e-3)
    exact = values.astype(np.float64) @ found.T
    cells = coding.nearest(found)(values)
    assert (exact.max(1) - np.take_along_axis(exact, cells[:, None], 1)[:, 0]).max() <= ROUNDING
    codec = ResidualCodec.train(values, 2, coding=coding)
    assert codec._coding is coding
    np.testing.assert_array_equal(codec.centroids, spherical_kmeans(values, 512, coding=coding))


def test_sums_of_the_vectors_of_each_centroid(rng):
    values, centroids = clustered(rng, 500, 64), rng.unit(21, 64)  # the last of which is repeated
    cells = (values.astype(np.float64) @ centroids.T).argmax(1)
    coding = Watched(1000, budget=150 * (4 * (21 + 16 * 64) + 9 * 24))
    points = coding.points(lambda: iter([values[:300], values[300:]]))
    for _ in range(2):
        sums, counts = points.sums(centroids)
        np.testing.assert_array_equal(counts, np.bincount(cells, minlength=21))
        for i in range(21):
            np.testing.assert_allclose(sums[i], values[cells == i].sum(0), atol=1e-5)
    assert coding.rows == [150, 150, 150, 150, 150, 150, 50, 50] * 2
    repeated = Centroids(coding, centroids).own(np.array([0, 20, 21, 23]))
    np.testing.assert_array_equal(repeated, [0, 20, 20, 20])


def test_what_is_missing_is_told(tmp_path, monkeypatch):
    with pytest.raises(RuntimeUnavailable, match=r'device "cuda:3": .* Or use device="cpu"'):
        DeviceCoding(Device("cuda", 3))
    refusal = RuntimeError("[ONNXRuntimeError] : 6 : CUDA failure 101: invalid device ordinal ; GPU=3")
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: (_ for _ in ()).throw(refusal))
        with pytest.raises(RuntimeUnavailable, match=r'device "cuda:3": .* Or use device="cpu"'):
            DeviceCoding(Device("cuda", 3))
    monkeypatch.setattr(device_graphs, "GRAPHS", tmp_path)
    with pytest.raises(RuntimeUnavailable, match=r"nearest\.onnx: .*Install latebolt again"):
        DeviceCoding(CPU)


def test_every_graph_is_there_and_small():
    sizes = {path.name: path.stat().st_size for path in Path(device_graphs.GRAPHS).iterdir()}
    taking = ("widen.onnx", "take_half.onnx", "take_single.onnx")
    assert sizes.keys() == {
        *taking,
        "nearest.onnx",
        "sums.onnx",
        *(f"codes_{bits}.onnx" for bits in (1, 2, 4)),
    }
    assert max(sizes.values()) < 12_000


@pytest.mark.gpu
@pytest.mark.skipif(
    CUDA_PROVIDER not in onnxruntime.get_available_providers(),
    reason="onnxruntime has no CUDA provider here (pip install 'latebolt[gpu]', on a machine with a GPU)",
)
class TestOnAGpu:
    """What only a device can show."""

    def test_every_operator_has_a_kernel_there(self):
        make_ready()
        for path in Path(device_graphs.GRAPHS).iterdir():
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            onnxruntime.InferenceSession(str(path), options, providers=[CUDA_PROVIDER])

    @pytest.mark.parametrize("bits", (1, 2, 4))
    @pytest.mark.parametrize("dim", (64, 96, 128))
    def test_the_kernels_codes_but_for_ties(self, rng, bits, dim):
        values = clustered(rng, 20_000, dim)
        codec = ResidualCodec.train(values, bits, n_centroids=1021)
        found = codec.on(DeviceCoding(Device("cuda"))).encode(values)
        differences = compare(codec, values, found, codec.encode(values), TF32)
        assert differences.cells <= 400 and differences.codes <= 20 and differences.norms <= 40

    @pytest.mark.parametrize("dtype", (np.float32, np.float16))
    def test_vectors_that_lie_there(self, rng, dtype):
        values = clustered(rng, 3000, 128).astype(dtype)
        codec = ResidualCodec.train(values.astype(np.float32), 2)
        codec = codec.on(DeviceCoding(Device("cuda"), budget=1000 * bytes_a_token(codec)))
        given = onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0)
        kept = np.flatnonzero(rng.random(3000) < 0.9)
        expected = codec.encode(values.astype(np.float32))
        # A block of another length may be multiplied by another kernel, which rounds otherwise.
        for found, rows in (
            (codec.encode(Placed(given)), slice(None)),
            (codec.encode(Placed(given, kept)), kept),
        ):
            for name, column in found.items():
                assert np.mean((column == expected[name][rows]).reshape(len(column), -1).all(1)) > 0.99

    def test_too_little_memory_is_told(self, rng):
        values = rng.unit(1 << 18, 16)
        codec = ResidualCodec.train(values[:1000], 2)
        many = np.concatenate([rng.unit(1 << 20, 16), codec.centroids])
        large = ResidualCodec(many, codec.levels, codec.spread, codec.factors, 2, codec.unit, codec.far)
        with pytest.raises(OutOfMemory, match="device"):  # 1.1 TB of scores, half, a quarter
            large.on(DeviceCoding(Device("cuda"), budget=1 << 50)).encode(values)
        found = large.on(DeviceCoding(Device("cuda"))).encode(values[:100])  # and it goes on
        assert len(found["norm"]) == 100
