"""What a model folder says of its model, wherever the graph comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from latebolt.contract import Frame, TextRules


@dataclass(frozen=True, eq=False, kw_only=True)
class Origin:
    """The part of a source that becomes the contract."""

    name: str
    architecture: str
    hidden: int  # width of the encoder
    max_tokens: int  # most positions the encoder takes
    frame: Frame
    query: TextRules
    document: TextRules
    tokenizer_json: str
    lowercase: bool = False  # texts are lowercased before the tokenizer sees them
    place: str = ""  # the folder it was read from, "" if it has none
    revision: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()  # settings of the source that could not be kept, in words
    files: dict[str, bytes] = field(default_factory=dict)  # further files of the model folder, by name
