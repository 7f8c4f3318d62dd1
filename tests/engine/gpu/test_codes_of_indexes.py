"""Indexes whose codes the device's graphs make, on ONNX Runtime's CPU provider in a GPU's place: columns and
hits as on the CPU, files as ever, and when the device fails an index that is as it was.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from as_gpus import as_gpus
from latebolt import Encoder, Index, TokenVectors, devices
from latebolt.cli import cli
from latebolt.codec.coding import KERNELS, Placed
from latebolt.encoder import batch_runner
from latebolt.encoder.gpu_runs import GpuRuns
from latebolt.errors import InvalidInput, OutOfMemory, RuntimeUnavailable
from latebolt.gpu import codes
from latebolt.index.documents.checked import CheckedDocument, check_documents
from latebolt.index.ingest import train
from latebolt.index.reencode import reencode
from latebolt.index.store.check import check_index

DIM = 64
TEXTS = [f"the {size} {animal} sleeps in the {place}" for size in ("small", "old", "wild")
         for animal in ("cat", "dog", "owl") for place in ("barn", "wood", "kitchen")]  # fmt: skip


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU is there, whose graphs run on the CPU; the graphs that were run."""
    run: list[str] = []

    class Coding(codes.DeviceCoding):
        def __init__(self, device: devices.Device, *rest: int) -> None:
            assert device == devices.Device("cpu" if rest else "cuda", 1)  # another beside it, or the index's
            super().__init__(devices.Device("cpu", len(rest)), *rest)

        def run(self, graph, *rest, **more):
            run.append(graph)
            return super().run(graph, *rest, **more)

    monkeypatch.setattr(devices, "resolve", lambda device, _: devices.parse(device))
    monkeypatch.setattr(codes, "DeviceCoding", Coding)
    monkeypatch.setattr(train, "TRAIN_TOKENS", 128)
    return run


def documents(seed: int, n: int = 60) -> TokenVectors:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, DIM))
    values = centres[rng.integers(0, 20, n * 10)] + 0.5 * rng.standard_normal((n * 10, DIM))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return TokenVectors(values, np.arange(0, n * 10 + 1, 10))


def names(prefix: str, n: int = 60) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def columns(index: Index) -> dict[str, np.ndarray]:
    """Those of all segments, one behind the other."""
    segments = index._store.snapshot().segments
    return {
        name: np.concatenate([segment.column(name) for segment in segments])
        for name in ("cell", "codes", "norm")
    }


def hits(opened: Index) -> list[list[tuple[str, float]]]:
    """Of some queries, as an index on the CPU finds them: whoever has no GPU reads it, too."""
    index = Index.open(opened.path)
    queries = documents(9, 8)
    return [
        [(hit.id, round(hit.score, 4)) for hit in index.search_vectors(queries[i][:4], k=5)] for i in range(8)
    ]


@pytest.mark.parametrize("bits", (1, 2, 4))
def test_the_same_columns_and_hits(tmp_path: Path, graphs: list[str], bits: int) -> None:
    base = Index.create(tmp_path / "base", None, bits=bits, dim=DIM)
    base.add_vectors(names("a"), documents(1))  # the codec is learnt, on the CPU
    assert not graphs
    for device in ("cpu", "cuda:1"):
        shutil.copytree(tmp_path / "base", tmp_path / device)
        Index.open(tmp_path / device).add_vectors(names("b"), documents(2), device=device)
    assert set(graphs) == {"nearest", f"codes_{bits}"}
    cpu, cuda = Index.open(tmp_path / "cpu"), Index.open(tmp_path / "cuda:1")
    expected, found = columns(cpu), columns(cuda)
    same = [(expected[name] == found[name]).reshape(1200, -1).all(1) for name in expected]
    assert np.mean(same) > 0.99
    assert [[id for id, _ in some] for some in hits(cpu)] == [[id for id, _ in some] for some in hits(cuda)]
    assert check_index(tmp_path / "cuda:1") == check_index(tmp_path / "cpu")


def test_an_index_that_is_made_on_the_device_whole(tmp_path: Path, graphs: list[str]) -> None:
    """Its centroids are learnt there, too, so its columns are others; what is found is not."""
    made = {}
    for device in ("cpu", "cuda:1"):
        index = Index.create(tmp_path / device, None, bits=4, dim=DIM, device=device)
        index.add_vectors(names("a"), documents(1))
        index.add_vectors(names("b"), documents(2))
        made[device] = hits(index)
        assert check_index(tmp_path / device) == []
    assert graphs.count("nearest") > 6  # of k-means
    best = [[some[0][0] for some in found] for found in made.values()]
    assert best[0] == best[1]
    for cpu, cuda in zip(*made.values(), strict=True):
        assert len({id for id, _ in cpu} & {id for id, _ in cuda}) >= 4
        assert cuda[0][1] == pytest.approx(cpu[0][1], abs=0.05)


def test_documents_unlike_the_others_are_learnt_there(tmp_path: Path, graphs: list[str]) -> None:
    index = Index.create(tmp_path / "index", None, dim=DIM, device="cuda:1")
    index.add_vectors(names("a"), documents(1))
    before = len(index._current_codec().centroids)
    values = documents(3, 100).values.copy()
    values[:, 0] += 4
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    index.add_vectors(names("b", 100), TokenVectors(values, np.arange(0, 1001, 10)))
    assert len(index._current_codec().centroids) > before
    assert check_index(tmp_path / "index") == []


@pytest.mark.parametrize("bits", (8, 16))
def test_codes_that_are_only_rounded_are_made_on_the_cpu(
    tmp_path: Path, graphs: list[str], bits: int
) -> None:
    index = Index.create(tmp_path / "index", None, bits=bits, dim=DIM, device="cuda:1")
    index.add_vectors(names("a"), documents(1))
    assert graphs == [] and len(index) == 60


def test_texts_by_every_way_in(
    tmp_path: Path, graphs: list[str], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """add, sync, and the server's additions, of an index that was opened for the device."""
    monkeypatch.setattr(train, "OUTLYING_SHARE", 2)  # a single text is easily unlike the others
    index = Index.open_or_create(tmp_path / "index", encoder, device="cuda:1")
    index.add(TEXTS)
    assert "codes_2" in graphs
    again = Index.open(tmp_path / "index", encoder, device="cuda:1,cuda:0")  # codes are made on the first

    def codes_of(*, made: bool) -> bool:
        found = "codes_2" in graphs
        graphs.clear()
        return found == made

    assert codes_of(made=True)
    again.sync([("a", "a boat on the lake")])
    assert codes_of(made=True)
    again.add(["a train in the snow"], device="cpu")
    assert codes_of(made=False)
    long = again.long_addition(_checked(["b", "c"]), "name")
    while long.encode():
        long.commit()
    assert codes_of(made=True)
    again.add_checked(_checked(["d"]))
    assert codes_of(made=True)
    part = again.new_part(tmp_path / "part")
    part.add(["what a part adds"], ids=["e"])
    assert codes_of(made=True)
    again.adopt(tmp_path / "part")
    found = Index.open(tmp_path / "index", encoder).search("train in the snow", k=1)
    assert [hit.text for hit in found] == ["a train in the snow"]
    assert len(again) == len(TEXTS) + 6


def test_vectors_stay_where_the_encoder_left_them(
    tmp_path: Path, graphs: list[str], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "OUTLYING_SHARE", 2)
    monkeypatch.setattr(train, "DRAWN_DOCUMENTS", 2)  # are looked at as vectors, before the rest is coded
    monkeypatch.setattr(train, "CHECK_TOKENS", 1)
    monkeypatch.setattr(batch_runner, "_PROBE_TOKENS", 4)
    Index.create(tmp_path / "cpu", encoder).add(TEXTS)
    shutil.copytree(tmp_path / "cpu", tmp_path / "cuda")
    texts = [f"{text}, " + "which is long " * (i % 5) for i, text in enumerate(TEXTS)]
    there = replace(as_gpus(encoder, 2), _gpu_runs=GpuRuns(deterministic=True)).with_lengths(document=20)
    assert there.codes_on_device and not encoder.codes_on_device
    coded: list[int] = []
    code_documents = Encoder.code_documents
    monkeypatch.setattr(
        Encoder,
        "code_documents",
        lambda self, some, code: coded.append(len(some)) or code_documents(self, some, code),
    )
    expected = Index.open(tmp_path / "cpu", encoder.with_lengths(document=20))
    expected.add(texts)
    assert coded == []
    found = Index.open(tmp_path / "cuda", there, device="cuda:1")
    graphs.clear()
    found.add(texts)
    assert len(found._codings.on()._others) == 1  # the other device codes what it has encoded
    assert coded == [len(texts) - 2] and set(graphs) == {"nearest", "take_single", "codes_2"}
    both = [columns(index) for index in (expected, found)]
    same = [(both[0][name] == both[1][name]).reshape(len(both[0]["norm"]), -1).all(1) for name in both[0]]
    assert np.mean(same) > 0.99
    kept = ("documents", "tokens", "truncated")
    assert [found.info()[name] for name in kept] == [expected.info()[name] for name in kept]
    assert found.info()["truncated"] > 0
    best = [
        [hit.id for hit in Index.open(tmp_path / device, encoder).search("owl in the barn")]
        for device in ("cpu", "cuda")
    ]
    assert best[0] == best[1]
    assert check_index(tmp_path / "cuda") == []


def test_the_command_makes_codes_there(
    tmp_path: Path, graphs: list[str], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "load", classmethod(lambda *_, **__: encoder))
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS))
    command = ["index", str(tmp_path / "index"), str(tmp_path / "texts.jsonl"), "--device", "cuda:1"]
    for _ in range(2):  # made, then opened
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0, done.output
        (tmp_path / "texts.jsonl").write_text('{"text": "the old cat sleeps in the kitchen, too"}\n')
        monkeypatch.setattr(train, "OUTLYING_SHARE", 2)
        assert "codes_2" in graphs
        graphs.clear()
    assert len(Index.open(tmp_path / "index")) == len(TEXTS) + 1


def test_what_becomes_of_a_run_is_each_texts_own(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "_PROBE_TOKENS", 4)
    runs: list[int] = []

    def code(device: devices.Device, values: object, places: np.ndarray | None) -> dict[str, np.ndarray]:
        vectors = Placed(values, places).on_host()
        runs.append(len(vectors))
        return {"vectors": vectors, "first": vectors[:, 0]}

    there = as_gpus(encoder).with_lengths(document=12)
    texts = ["a cat", "", "the old owl sleeps in the barn " * 3, "a", "the dog of the wild wood"]
    found, truncated = there.code_documents(texts, code)
    expected = there.encode_documents(texts)
    assert len(runs) < len(texts) and truncated == expected.truncated.tolist() and any(truncated)
    for columns, vectors in zip(found, expected, strict=True):
        np.testing.assert_array_equal(columns["vectors"], vectors)
        np.testing.assert_array_equal(columns["first"], vectors[:, 0])


def test_a_copy_is_coded_where_its_encoder_runs(
    tmp_path: Path, graphs: list[str], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Index.create(tmp_path / "index", encoder)
    source.add(TEXTS)
    assert not graphs
    monkeypatch.setattr(Encoder, "device", "cuda:1")
    reencode(source, tmp_path / "copy", encoder, 2)
    assert "codes_2" in graphs and len(Index.open(tmp_path / "copy")) == len(TEXTS)


def test_a_gpu_is_given_what_a_sample_is_likely_to_take() -> None:
    drawn: list[int] = []

    class Source:
        on_gpu = True

        def most_tokens(self, row):
            return 512

        def sample(self, rows):
            drawn.append(len(rows))
            return [np.zeros((10, 8), np.float32)] * len(rows)

    for on_gpu, numbers in ((True, [256, 744]), (False, [256] * 4)):
        Source.on_gpu = on_gpu
        draws = train._Draws([range(i, i + 1) for i in range(5000)], Source(), 8)
        draws.draw(10_000)
        assert drawn == numbers and draws.n_tokens == 10 * sum(numbers)
        drawn.clear()


def _checked(ids: list[str]) -> list[CheckedDocument]:
    return check_documents(len(ids), texts=[f"text of {id}" for id in ids], ids=ids, metadata=None)


@pytest.mark.parametrize("where", ("nearest", "codes_2"))
def test_a_device_that_fails_leaves_the_index_as_it_was(
    tmp_path: Path, graphs: list[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    index = Index.create(tmp_path / "index", None, dim=DIM, device="cuda:1")
    index.add_vectors(names("a"), documents(1))
    expected, generation = hits(index), index.info()["generation"]
    run = codes.DeviceCoding.run

    def failing(self, graph, *rest, **more):
        if graph == where:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=1 ; hostname=x")
        return run(self, graph, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(codes.DeviceCoding, "run", failing)
        with pytest.raises(OutOfMemory, match='device="cpu"'):
            index.add_vectors(names("b"), documents(2))
    assert hits(index) == expected and index.info()["generation"] == generation
    assert check_index(tmp_path / "index") == []
    index.add_vectors(names("b"), documents(2))  # the way out, and the device has recovered
    assert len(index) == 120


def test_a_device_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", None, dim=DIM, with_first_add=True)
    with pytest.raises(RuntimeUnavailable, match=r'device "cuda:7": .* use device="cpu"'):
        index.add_vectors(names("a"), documents(1), device="cuda:7")
    with pytest.raises(InvalidInput, match='got "gpu"'):
        index.add_vectors(names("a"), documents(1), device="gpu")
    assert not (tmp_path / "index").exists()


@pytest.mark.gpu
@pytest.mark.skipif(
    devices.CUDA_PROVIDER not in onnxruntime.get_available_providers(),
    reason="onnxruntime has no CUDA provider here (pip install 'latebolt[gpu]', on a machine with a GPU)",
)
def test_on_a_gpu_texts_become_an_index_like_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "TRAIN_TOKENS", 128)
    monkeypatch.setattr(train, "OUTLYING_SHARE", 2)
    monkeypatch.setattr(train, "DRAWN_DOCUMENTS", 2)
    monkeypatch.setattr(train, "CHECK_TOKENS", 1)
    encoder = Encoder.load("starter", device="cuda")
    texts = [f"{text}, " + "which is long " * (i % 5) for i, text in enumerate(TEXTS)]
    Index.create(tmp_path / "cpu", encoder).add(TEXTS)
    shutil.copytree(tmp_path / "cpu", tmp_path / "cuda")
    made = []
    for device in ("cpu", "cuda"):
        index = Index.open(tmp_path / device, encoder, device="cpu")  # searches are compared elsewhere
        index.add(texts, device=device)
        assert check_index(tmp_path / device) == []
        made.append(index)
    both = [columns(index) for index in made]
    same = [(both[0][name] == both[1][name]).reshape(len(both[0]["norm"]), -1).all(1) for name in both[0]]
    assert np.mean(same) > 0.95  # fp16 vectors of runs in other company, and ties
    for text in texts[:5]:
        assert made[0].search(text, k=1)[0].text == made[1].search(text, k=1)[0].text
    whole = Index.create(tmp_path / "whole", encoder, device="cuda")  # its codec is learnt there, too
    whole.add(TEXTS)
    whole.close()
    assert Index.open(tmp_path / "whole", encoder).search(TEXTS[3], k=1)[0].text == TEXTS[3]


def test_a_closed_index_lets_go_of_the_device(tmp_path: Path, graphs: list[str]) -> None:
    index = Index.create(tmp_path / "index", None, dim=DIM, device="cuda:1")
    coding = index._codings.on()
    assert coding is index._codings.on("cuda:1") and index._codings.on("cpu") is KERNELS
    index.close()
    assert index._codings.on() is not coding
