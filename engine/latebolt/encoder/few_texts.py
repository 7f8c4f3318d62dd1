"""A tokenizer of unigrams with the pieces of a few texts alone, made in a third of the time of the whole one,
which takes over where there are more.

Unigrams look for the best cut of a word among the pieces that it contains, and score what none covers by the
worst piece of all. So a vocabulary in which every other piece is the empty text, at the worst score, cuts the
word alike, and pieces keep their ids, which are their places. Texts that spell out an added token, and
tokenizers that do more, are left to the whole one.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, Final, cast

import msgspec
from tokenizers import AddedToken, Encoding, Tokenizer, models

# Vocabularies below are loaded at once; so is the whole for more text, or for new pieces once more.
_LEAST_PIECES: Final = 50_000
_MOST_CHARACTERS: Final = 30_000
_MOST_TIMES: Final = 2

_expected: ContextVar[bool] = ContextVar("few texts", default=False)


@contextlib.contextmanager
def expected() -> Iterator[None]:
    """What is loaded within is for a few texts, such as those of a command that answers one query."""
    token = _expected.set(True)
    try:
        yield
    finally:
        _expected.reset(token)


def are_expected() -> bool:
    """Whether what is loaded now is for a few texts."""
    return _expected.get()


class _Model(msgspec.Struct):
    type: str
    unk_id: int
    vocab: list[tuple[str, float]]
    byte_fallback: bool = False


class _Added(msgspec.Struct):
    id: int
    content: str
    normalized: bool


class _File(msgspec.Struct):
    """The parts of a tokenizer.json that are looked at."""

    model: _Model
    normalizer: dict[str, Any]
    pre_tokenizer: dict[str, Any]
    added_tokens: list[_Added]
    post_processor: dict[str, Any] | None


def made_of(content: bytes) -> Tokenizer:
    """The tokenizer of a tokenizer.json: where few texts are expected and it can be, one for these.

    Raises:
        Exception: it is none; of the tokenizers library.
    """
    if _expected.get():
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            file = msgspec.json.decode(content, type=_File)
            if _is_plain(file):
                return cast(Tokenizer, FewTexts(content, file))
    return Tokenizer.from_buffer(content)  # from_file reads byte by byte and takes half as long again


def _is_plain(file: _File) -> bool:
    """Whether words are cut by their pieces alone, and added tokens are pieces, found by their texts."""
    model, n = file.model, len(file.model.vocab)
    return (
        model.type == "Unigram"
        and not model.byte_fallback
        and n >= _LEAST_PIECES
        and 0 <= model.unk_id < n
        and all(
            token.content
            and not token.normalized
            and 0 <= token.id < n
            and model.vocab[token.id][0] == token.content
            for token in file.added_tokens
        )
    )


class FewTexts:
    """What encoding texts needs of a `tokenizers.Tokenizer`, by its names; all else is the whole tokenizer's.

    Thread-safe. Made by `made_of`.
    """

    def __init__(self, content: bytes, file: _File) -> None:
        vocab, unknown = file.model.vocab, file.model.unk_id
        self._content, self._vocab, self._added = content, vocab, file.added_tokens
        self._unknown = unknown
        self._places = dict(zip(map(itemgetter(0), vocab), range(len(vocab)), strict=True))
        self._longest = max(map(len, self._places))
        worst = min(map(itemgetter(1), vocab))
        self._pieces: list[tuple[str, float]] = [("", worst)] * len(vocab)
        self._pieces[unknown] = vocab[unknown]
        self._known: set[int] = set()
        model = {"type": "Unigram", "unk_id": 0, "vocab": [vocab[unknown]], "byte_fallback": False}
        parts = msgspec.structs.asdict(file) | {"version": "1.0", "added_tokens": [], "model": model}
        self._part = Tokenizer.from_str(json.dumps(parts))
        self._whole: Tokenizer | None = None
        self._characters = self._times = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of an object that is being copied
            raise AttributeError(name)
        with self._lock:
            return getattr(self._all(), name)

    @property
    def normalizer(self) -> Any:
        """As of a tokenizer; so is every name below."""
        return self._part.normalizer

    @property
    def pre_tokenizer(self) -> Any:
        """See `normalizer`."""
        return self._part.pre_tokenizer

    @property
    def model(self) -> Any:
        """Of the right type, with other pieces."""
        return self._part.model

    def no_padding(self) -> None:
        """It never pads."""

    def no_truncation(self) -> None:
        """It never truncates."""

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """See `normalizer`."""
        return {token.id: AddedToken(token.content, normalized=False) for token in self._added}

    def get_vocab_size(self) -> int:
        """See `normalizer`."""
        return len(self._vocab)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Encoding:
        """See `normalizer`."""
        return self._for([text], add_special_tokens).encode(text, add_special_tokens=add_special_tokens)

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[Encoding]:
        """See `normalizer`."""
        found = self._for(texts, add_special_tokens)
        return found.encode_batch(texts, add_special_tokens=add_special_tokens)

    def encode_batch_fast(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[Encoding]:
        """See `normalizer`."""
        found = self._for(texts, add_special_tokens)
        return found.encode_batch_fast(texts, add_special_tokens=add_special_tokens)

    def _for(self, texts: Sequence[str], add_special_tokens: bool) -> Tokenizer:
        """A tokenizer that encodes these texts as the whole one does."""
        with self._lock:
            self._characters += sum(map(len, texts))
            many = self._characters > _MOST_CHARACTERS
            if self._whole or many or add_special_tokens or self._spell_added(texts):
                return self._all()
            found = self._pieces_of(texts) - self._known
            if found:
                self._times += 1
                if self._times > _MOST_TIMES:
                    return self._all()
                self._add(found)
            return self._part

    def _spell_added(self, texts: Sequence[str]) -> bool:
        return any(token.content in text for token in self._added for text in texts)

    def _pieces_of(self, texts: Sequence[str]) -> set[int]:
        """The places of all pieces that are part of a word of the texts, as the model is given words."""
        normalizer, pre_tokenizer = self._part.normalizer, self._part.pre_tokenizer
        words = {
            word
            for text in texts
            for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
        }
        parts = {
            word[start:end]
            for word in words
            for start in range(len(word))
            for end in range(start + 1, min(start + self._longest, len(word)) + 1)
        }
        return {self._places[part] for part in parts if part in self._places}

    def _add(self, places: set[int]) -> None:
        for place in places:
            self._pieces[place] = self._vocab[place]
        self._known |= places
        part = Tokenizer(models.Unigram(self._pieces, self._unknown, False))
        part.normalizer, part.pre_tokenizer = self._part.normalizer, self._part.pre_tokenizer
        part.post_processor = self._part.post_processor  # it may move offsets
        self._part = part  # in one step: other threads may be encoding

    def _all(self) -> Tokenizer:
        if self._whole is None:
            self._whole = Tokenizer.from_buffer(self._content)
            self._whole.no_padding()
            self._whole.no_truncation()
        return self._whole
