"""Reads the parts of a sentencepiece model that this package needs, without a protobuf schema.

Field numbers are those of sentencepiece_model.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from latebolt.errors import ExportError

_PIECES, _TRAINER, _NORMALISER = 1, 2, 3  # ModelProto
_TEXT, _SCORE, _KIND = 1, 2, 3  # SentencePiece
_ALGORITHM = 3  # TrainerSpec.model_type
_TABLE = 2  # NormalizerSpec.precompiled_charsmap
NORMAL, CONTROL, OWN = 1, 3, 4  # kinds of pieces; OWN = defined by whoever trained the model
UNIGRAM = 1
_VARINT_BYTES = 10  # at most: 64 bits, seven a byte


@dataclass(frozen=True)
class Piece:
    """One token, its logarithmic probability and what kind it is."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencepieceModel:
    """The pieces by id, the algorithm that they are for, and the normalisation table (empty: none)."""

    pieces: tuple[Piece, ...]
    algorithm: int
    table: bytes


def read(model: bytes, name: str) -> SentencepieceModel:
    """The model that these bytes hold. `name` is for messages.

    Raises:
        ExportError: they hold none.
    """
    pieces, algorithm, table = [], UNIGRAM, b""
    try:
        for number, value in _fields(model):
            if number == _PIECES:
                pieces.append(_piece(_message(value)))
            elif number == _TRAINER:
                found = dict(_fields(_message(value))).get(_ALGORITHM, UNIGRAM)
                algorithm = found if isinstance(found, int) else algorithm
            elif number == _NORMALISER:
                table = _message(dict(_fields(_message(value))).get(_TABLE, b""))
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ExportError(f"{name}: is no sentencepiece model ({error}). Download it again.") from error
    if not pieces:
        raise ExportError(f"{name}: is no sentencepiece model (it has no pieces). Download it again.")
    return SentencepieceModel(tuple(pieces), algorithm, table)


def _piece(message: bytes) -> Piece:
    found = dict(_fields(message))
    kind, score = found.get(_KIND, NORMAL), _message(found.get(_SCORE, bytes(4)))
    if not isinstance(kind, int) or len(score) != 4:
        raise ValueError("a piece has a kind or a score of another type")
    (number,) = struct.unpack("<f", score)
    if not math.isfinite(number):
        raise ValueError(f"a piece has the score {number}")
    return Piece(_message(found.get(_TEXT, b"")).decode(), number, kind)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: int | bytes
        if (wire := key & 7) == 0:
            value, at = _varint(message, at)
        elif wire in (1, 2, 5):
            length, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(message):
            raise ValueError("it ends early")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(message[at : at + _VARINT_BYTES]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("it ends early" if at + _VARINT_BYTES > len(message) else "a number without end")
