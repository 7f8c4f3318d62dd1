"""Encodings kept on disk by what they depend on, so that an interrupted or repeated evaluation goes on.

A file holds the vectors of some 256 texts. Its name is a digest of all that decides them: the model's
contract, the bytes of its graph and tokenizer, ONNX Runtime's version, device, precision, width, kind, and
the texts. Nothing is ever looked up by a model's or a collection's name, so no two can be mixed. Texts are
put into files by their own digests: a document added to a collection renews one file, not all behind it.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from latebolt import caches, drafts
from latebolt.encoder.encoder import Encoder
from latebolt.errors import LateboltError
from latebolt.formats.digests import remembered_sha256
from latebolt.hits import Span
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors

_TEXTS_A_FILE = 256
_FORMAT = "1"
# What NumPy and the archive's reader say of damaged bytes: of a changed flag, for example, that no password
# was given, or that a way to compress is not known.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)

logger = logging.getLogger(__name__)

# A text, and the parts that are cut out of its vectors; None where it is encoded as a whole.
_Work = tuple[str, tuple[Span, ...] | None]


def encoder_digest(encoder: Encoder) -> str:
    """64 hex digits, equal only for encoders that give a text the same vectors."""
    folder = encoder.folder
    graph = encoder.contract.graph(encoder.precision)
    files = [*(folder.path / part.file for part in graph.parts), folder.tokenizer_file]
    runtime = next((v for name in ("onnxruntime", "onnxruntime-gpu") if (v := _version(name))), "")
    place = (runtime, encoder.device, encoder.precision, encoder.dim)
    parts = (_FORMAT, encoder.contract, remembered_sha256(files), place)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


class Encodings:
    """Encodes texts through a folder of earlier encodings; None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def encode(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        kind: Literal["query", "document"],
        show_progress: bool = False,
    ) -> TokenVectors:
        """Token vectors of the texts, in order; equal texts are encoded once."""
        encode = encoder.encode_queries if kind == "query" else encoder.encode_documents
        whole: list[_Work] = [(text, None) for text in texts]
        return self._through(
            encoder, kind, whole, lambda work: encode([text for text, _ in work]), show_progress
        )

    def encode_parts(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        parts: Sequence[Sequence[Span]],
        show_progress: bool = False,
    ) -> TokenVectors:
        """See `Encoder.encode_parts`."""
        windows: list[_Work] = [(text, tuple(spans)) for text, spans in zip(texts, parts, strict=True)]
        return self._through(
            encoder,
            "part",
            windows,
            lambda work: encoder.encode_parts([text for text, _ in work], [spans or () for _, spans in work]),
            show_progress,
        )

    def _through(
        self,
        encoder: Encoder,
        kind: str,
        given: Sequence[_Work],
        encode: Callable[[list[_Work]], TokenVectors],
        show_progress: bool,
    ) -> TokenVectors:
        """What `encode` gives of all that is given, in order, in files of some of it each."""
        model = encoder_digest(encoder) if self.folder else ""
        of = {work: _digest(work) for work in given}
        n_files = 1 << max(0, (len(of) // _TEXTS_A_FILE).bit_length())
        groups: dict[int, list[_Work]] = {}
        for work in sorted(of, key=lambda each: of[each]):
            groups.setdefault(int.from_bytes(of[work][:8], "big") % n_files, []).append(work)
        found: dict[_Work, list[npt.NDArray[np.float32]]] = {}
        with progress_bar(len(of), f"encode {kind}s, dim {encoder.dim}", "text", show_progress) as bar:
            for group in groups.values():
                digests = b"".join(of[work] for work in group)
                name = hashlib.sha256(f"{model} {kind} ".encode() + digests).hexdigest()[:40]
                vectors = self._group(encoder, name, group, encode)
                each = iter(vectors)
                found.update((work, list(itertools.islice(each, _n_matrices(work)))) for work in group)
                bar.step(len(group), vectors.n_tokens)
        return TokenVectors.from_matrices([matrix for work in given for matrix in found[work]], encoder.dim)

    def _group(
        self,
        encoder: Encoder,
        name: str,
        group: list[_Work],
        encode: Callable[[list[_Work]], TokenVectors],
    ) -> TokenVectors:
        if self.folder is None:
            return encode(group)
        path = self.folder / name[:2] / f"{name}.npz"
        kept = _read(path, sum(map(_n_matrices, group)), encoder.dim)
        if kept is None:
            kept = encode(group)
            _write(path, kept)
        return kept


def _digest(work: _Work) -> bytes:
    text, parts = work
    return hashlib.sha256(text.encode() if parts is None else msgspec.json.encode((text, parts))).digest()


def _n_matrices(work: _Work) -> int:
    return 1 if work[1] is None else len(work[1])


def _read(path: Path, n_texts: int, dim: int) -> TokenVectors | None:
    """What a file holds; None if there is none, or it is damaged (the archive has a checksum)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            vectors = TokenVectors(stored["values"], stored["offsets"])
    except FileNotFoundError:
        return None
    except _DAMAGE as error:
        logger.warning("%s: cannot be used (%s); its texts are encoded again.", path, error)
        return None
    return vectors if len(vectors) == n_texts and vectors.dim == dim else None


def _write(path: Path, vectors: TokenVectors) -> None:
    try:
        caches.make_folder(path.parent)
        with drafts.file_for(path) as file:
            np.savez(file, values=vectors.values, offsets=vectors.offsets)
    except (OSError, LateboltError) as error:  # a cache that cannot be written only costs time
        logger.warning("%s The run goes on without keeping these.", error)
