"""Codes of an index's segments that live on GPUs: how many bytes they take, where they go, what is there.

A segment's files never change, so that what is on a device stays as it is until the index drops the segment;
after a commit only new segments go up. Segments whose vectors the kernels do not read are named, and left to
the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.codec.base import Codec
from latebolt.codec.plain import Float16Codec
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.errors import OutOfMemory
from latebolt.gpu import layout
from latebolt.gpu.cuda import WAYS, Gpu
from latebolt.kernels.shapes import N_FACTORS

MOST_BLOCKS = 4  # of 32 query tokens that one pass over the codes serves
GROUPS = 1 << 16  # whose maxima tell which documents may be among the best
_OPERAND_BYTES = 40_960  # of the query, that a thread block has in shared memory
_ROWS = 1 << 16  # of vectors that are looked at together
_SPARE = 1 << 28  # bytes left to the driver, compiled kernels and rounding


class Part(NamedTuple):
    """A segment as far as it concerns a device.

    column: gives a token column by its name; check_finite: raises for numbers that are not.
    """

    name: str
    codec: Codec
    column: Callable[[str], npt.NDArray[Any]]
    offsets: Int64
    check_finite: Callable[[Float32], None]


def why_not(codec: Codec) -> str | None:
    """Why vectors of this codec are scored on the CPU; None where a device does it."""
    if isinstance(codec, Float16Codec):
        return None
    if not isinstance(codec, ResidualCodec):
        return f"vectors of {codec.bits} bits a dimension have no kernel for a GPU"
    if most_blocks(layout.padded_dim(codec.dim, codec.bits)) == 0:
        return f"{codec.dim} dimensions are more than a GPU's shared memory takes"
    return None


def most_blocks(padded: int) -> int:
    """Blocks of query tokens that one pass serves, of so many dimensions: 4, 2 or 1, 0 without room."""
    room = min(MOST_BLOCKS, _OPERAND_BYTES // (layout.BLOCK * padded))
    return 1 << (room.bit_length() - 1) if room else 0


def resident_bytes(codec: Codec, n_tokens: int, n_documents: int) -> int:
    """Bytes that a segment takes on a device: codes, centroids' numbers, factors' numbers; documents' bounds
    and the bits that say which of them are searched."""
    if isinstance(codec, ResidualCodec):
        cell = np.dtype(codec.columns[0][1]).itemsize
        token = layout.padded_dim(codec.dim, codec.bits) * codec.bits // 8 + cell + 1
    else:
        token = 2 * codec.dim
    return n_tokens * token + 8 * (n_documents + 1) + 4 * -(-n_documents // 32)


def working_bytes(n_documents: int, n_centroids: int, dim: int) -> int:
    """Bytes beside that for a search of segments of up to so many documents and centroids: scores of blocks
    and of documents, those that are chosen; the centroids, and their scores with the query."""
    return (MOST_BLOCKS + 3) * 4 * n_documents + n_centroids * (4 * dim + MOST_BLOCKS * 2 * layout.BLOCK)


def spread(sizes: Sequence[int], free: Sequence[float], held: Sequence[int]) -> list[int]:
    """Which device each new segment goes to: the largest first, to the device that then holds least.

    Args:
        sizes: bytes of each segment; free: bytes that each device has for them; held: bytes of the segments
            that each has already.
    Returns:
        For each segment a position of `free`; -1 where it fits on none.
    """
    left, load = list(free), list(held)
    chosen = [-1] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        fitting = [d for d in range(len(left)) if left[d] >= sizes[i]]
        if fitting:
            chosen[i] = min(fitting, key=lambda d: load[d])
            left[chosen[i]] -= sizes[i]
            load[chosen[i]] += sizes[i]
    return chosen


class CodecOnDevice:
    """What kernels need of a residual codec, on one device."""

    def __init__(self, gpu: Gpu, codec: ResidualCodec) -> None:
        self.codec = codec
        self.longest = float(np.linalg.norm(codec.centroids.astype(np.float64), axis=1).max())
        self.centroids = gpu.put(codec.centroids)
        self.factors = gpu.put(codec.factors.reshape(N_FACTORS, 2))
        self.levels = gpu.put(layout.packed_levels(codec.levels))


class OnDevice:
    """A segment on a device.

    Args:
        codec: what it was written with, there; None for float16 vectors.
    """

    def __init__(self, gpu: Gpu, part: Part, codec: CodecOnDevice | None) -> None:
        self.gpu, self.name, self.codec, self.dim = gpu, part.name, codec, part.codec.dim
        self.n_docs = len(part.offsets) - 1
        self.bytes = resident_bytes(part.codec, int(part.offsets[-1]), self.n_docs)
        self._of, self._masked = part.offsets, None  # the array itself tells that the files are the same
        self._masked_for: object = None
        self.offsets = gpu.put(np.asarray(part.offsets, np.int64))
        self._all = gpu.empty(0, np.uint32)
        if codec is None:
            values = part.column("values")
            largest = np.zeros(1, np.float32)
            for start in range(0, len(values), _ROWS):
                np.maximum(largest, np.abs(values[start : start + _ROWS]).max(initial=0.0), out=largest)
            part.check_finite(largest)  # a maximum with a NaN is one
            self.largest = float(largest[0])
            self.values = gpu.put_rows(values, lambda rows: rows, np.float16).reshape(-1, self.dim)
            return
        bits = codec.codec.bits
        self.padded = layout.padded_dim(self.dim, bits)
        paired = self.padded * bits // 128 % 2 == 0
        self.codes = gpu.put_rows(
            part.column("codes"),
            lambda rows: layout.place_codes(rows, self.dim, bits),
            np.int64 if paired else np.uint32,
        )
        cells = part.column("cell")
        self.cells = gpu.put_rows(cells, lambda rows: rows, cells.dtype)
        self.norms = gpu.put_rows(part.column("norm"), lambda rows: rows, np.uint8)

    def is_of(self, part: Part) -> bool:
        """Whether these are the part's files. Names do not tell: another index may stand at its path."""
        return self._of is part.offsets

    def mask(self, rows: Int64 | None, key: object) -> Any:
        """The documents to score as bits on the device.

        Args:
            rows: int64, ascending; None for all.
            key: an object that stands for the rows, where they may be asked for again; None where not.
        """
        if rows is None:
            return self._all
        if key is None or key is not self._masked_for:
            some = np.zeros(-(-self.n_docs // 32) * 32, np.bool_)
            some[rows] = True
            bits = np.packbits(some, bitorder="little").view("<u4").astype(np.uint32)
            self._masked, self._masked_for = self.gpu.put(bits), key
        return self._masked


class Space:
    """Arrays that searches of segments of up to so many documents write to."""

    def __init__(self, gpu: Gpu, n_docs: int) -> None:
        self.gpu, self.n_docs = gpu, n_docs
        self.totals, self.scores = gpu.empty(n_docs, np.float32), gpu.empty(n_docs, np.float32)
        self.rows, self.maxima = gpu.empty(n_docs, np.int32), gpu.empty(min(GROUPS, n_docs), np.float32)
        self._parts = gpu.empty(0, np.float32)

    @property
    def bytes(self) -> int:
        """That the arrays take."""
        arrays = (self.totals, self.scores, self.rows, self.maxima, self._parts)
        return sum(int(array.nbytes) for array in arrays)

    def parts(self, n_blocks: int, n_docs: int) -> Any:
        """Float32 [n_blocks, n_docs]."""
        if self._parts.size < n_blocks * self.n_docs:
            self._parts = self.gpu.empty(0, np.float32)  # lets go of it before there is a larger one
            self._parts = self.gpu.empty(n_blocks * self.n_docs, np.float32)
        return self._parts[: n_blocks * n_docs].reshape(n_blocks, n_docs)


class Resident:
    """The segments of an index on GPUs. Not for several threads at once.

    Args:
        where: names the index in errors.
    Raises:
        RuntimeUnavailable: the kernels cannot run on one of them.
    """

    def __init__(self, gpus: Sequence[Gpu], where: str) -> None:
        self.gpus, self._where = tuple(gpus), where
        for gpu in self.gpus:
            gpu.require_tensor_cores()
        self.segments: dict[str, OnDevice] = {}
        self._codecs: dict[tuple[int, int], CodecOnDevice] = {}
        self._spaces: dict[Gpu, Space] = {}

    def refresh(self, parts: Sequence[Part]) -> None:
        """Drop what the index has dropped, and put up what is new and has a kernel.

        Raises:
            OutOfMemory: the new segments do not fit; what is there stays.
        """
        parts = [part for part in parts if why_not(part.codec) is None]
        known = {part.name: part for part in parts}
        kept = {n: each for n, each in self.segments.items() if n in known and each.is_of(known[n])}
        self.segments = kept
        new = [part for part in parts if part.name not in kept]
        wanted = {id(part.codec) for part in parts}
        self._codecs = {key: each for key, each in self._codecs.items() if id(each.codec) in wanted}
        if not new:
            return
        for part, place in zip(new, self._places(new, parts), strict=True):
            gpu = self.gpus[place]
            with gpu.at_work(f"segment {part.name} of {self._where}"):
                self.segments[part.name] = OnDevice(gpu, part, self._codec(place, part.codec))

    def _places(self, new: Sequence[Part], parts: Sequence[Part]) -> list[int]:
        """Which GPU each new part goes to."""
        sizes = [resident_bytes(p.codec, int(p.offsets[-1]), len(p.offsets) - 1) for p in new]
        most_docs = max(len(part.offsets) - 1 for part in parts)
        codecs = [part.codec for part in parts if isinstance(part.codec, ResidualCodec)]
        centroids = max((len(codec.centroids) for codec in codecs), default=0)
        work = working_bytes(most_docs, centroids, parts[0].codec.dim) + _SPARE
        held = [sum(e.bytes for e in self.segments.values() if e.gpu is gpu) for gpu in self.gpus]
        free = [gpu.free_bytes() + self._space_bytes(gpu) - work for gpu in self.gpus]
        places = spread(sizes, free, held)
        if -1 in places:
            there = ", ".join(
                f"{gpu} has {(left + work) / 1e9:.1f} GB free"
                for gpu, left in zip(self.gpus, free, strict=True)
            )
            raise OutOfMemory(
                f"{self._where}: searching it on a GPU takes {sum(sizes) / 1e9:.1f} GB for its codes and "
                f"{work / 1e9:.1f} GB to work with on each device, and {there}. {WAYS}"
            )
        return places

    def _space_bytes(self, gpu: Gpu) -> int:
        found = self._spaces.get(gpu)
        return 0 if found is None else found.bytes

    def _codec(self, place: int, codec: Codec) -> CodecOnDevice | None:
        if not isinstance(codec, ResidualCodec):
            return None
        key = place, id(codec)
        if key not in self._codecs:
            self._codecs[key] = CodecOnDevice(self.gpus[place], codec)
        return self._codecs[key]

    def space(self, gpu: Gpu, n_docs: int) -> Space:
        """What searches of so many documents write to, kept for the next one."""
        found = self._spaces.get(gpu)
        if found is None or found.n_docs < n_docs:
            self._spaces.pop(gpu, None)  # lets go of it before there is a larger one
            found = self._spaces[gpu] = Space(gpu, n_docs)
        return found

    def close(self) -> None:
        """Let go of all that is on the devices."""
        self.segments, self._codecs, self._spaces = {}, {}, {}


class Wanted(NamedTuple):
    """What is wanted of one segment.

    rows: int64, ascending, that may be found, None for all; key: see `OnDevice.mask`; firsts: the first row
    of the document that each of some rows belongs to, None where every row is a document.
    """

    rows: Int64 | None
    key: object
    firsts: Callable[[Int64], Int64] | None


Wishes = Mapping[str, Wanted]
Queries = Sequence[Float32]
