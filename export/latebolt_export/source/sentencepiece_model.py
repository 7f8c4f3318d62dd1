"""Reads the one field of a sentencepiece model that this package needs, without a protobuf schema."""

from __future__ import annotations

from latebolt.errors import ExportError

_NORMALISER, _TABLE = 3, 2  # ModelProto.normalizer_spec, NormalizerSpec.precompiled_charsmap


def normaliser_table(model: bytes) -> bytes:
    """The compiled table of a model's normalisation rule.

    Raises:
        ExportError: these bytes are no model, or the model has no table.
    """
    return _field(_field(model, _NORMALISER), _TABLE)


def _field(message: bytes, wanted: int) -> bytes:
    """The last value of a length-delimited field of a protobuf message."""
    at, found = 0, None
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            if number == wanted:
                found = message[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            break
    if found is None or at != len(message):
        raise ExportError("the sentencepiece library made a model without a normalisation table. Update it.")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ExportError("the sentencepiece library made a model that ends early. Update it.")
