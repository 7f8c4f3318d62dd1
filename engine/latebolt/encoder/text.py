"""Texts to token ids by a model's contract: prompts, markers, truncation, expansion, skip list.

Tokenisation runs in Rust over the whole batch; what the contract adds is put on afterwards, so the
tokenizer object holds no state and may be shared by threads. Of a long text only so much is read as the
model takes (see `stretches`). Knows nothing of ONNX.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from latebolt.arrays import Int64
from latebolt.contract import MOST_IN_WINDOWS, Contract, TextRules, added_tokens
from latebolt.encoder import few_texts
from latebolt.encoder.legibility import Legibility
from latebolt.encoder.reading import windows
from latebolt.encoder.stretches import Stretch, Stretches
from latebolt.encoder.tally import Letters
from latebolt.errors import InvalidInput, ModelError
from latebolt.hits import Span

# Characters of a long text that are tokenised at a time, where all of it is.
_STRETCH: Final = 16_384


@dataclass(frozen=True)
class TokenIds:
    """One text as the encoder takes it.

    ids: int64 [n]. attended: the first so many may be attended to (all but an unattended expansion).
    keep: bool [n], rows whose vectors are kept; None for all. truncated: whether text was cut off. cuts:
    where in `ids` each window after the first begins, of a document that is read in several.
    """

    ids: Int64
    attended: int
    keep: npt.NDArray[np.bool_] | None
    truncated: bool
    cuts: tuple[int, ...] = ()

    def windows(self) -> list[TokenIds]:
        """What is encoded by itself, and whose vectors one behind the other are the text's."""
        if not self.cuts:
            return [self]
        ids = np.split(self.ids, self.cuts)
        keeps = [None] * len(ids) if self.keep is None else np.split(self.keep, self.cuts)
        return [TokenIds(a, len(a), b, self.truncated) for a, b in zip(ids, keeps, strict=True)]

    @property
    def n_kept(self) -> int:
        """Vectors that the text has."""
        return len(self.ids) if self.keep is None else int(np.count_nonzero(self.keep))


class TextTokens(NamedTuple):
    """All tokens of a text: the characters [start, end) of each, and whether it is the first of a word."""

    spans: list[Span]
    begins: list[bool]


class PartRows(NamedTuple):
    """A part of a document: bool [n_kept], which vectors are its own, and whether its end was not read."""

    rows: npt.NDArray[np.bool_]
    truncated: bool


class TextPipeline:
    """The tokenizer of a model with its contract's rules. Thread-safe; holds no per-call state."""

    def __init__(self, tokenizer: Path | Tokenizer, contract: Contract) -> None:
        if isinstance(tokenizer, Path):
            try:
                tokenizer = few_texts.made_of(tokenizer.read_bytes())
            except Exception as error:
                raise ModelError(f"{tokenizer}: {error}. Export the model again.") from error
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.contract = contract
        self._stretches = Stretches(self._tokenizer)
        self._legibility = Legibility(self._tokenizer)
        self._dropped = {kind: self._drop_table(rules) for kind, rules in self._rules().items()}
        self._swapped = {kind: self._swap_table(rules) for kind, rules in self._rules().items()}
        self._prompts = {kind: self._prompt_ids(rules) for kind, rules in self._rules().items()}
        self._repeated = self._repeated_ids(contract.document)

    def with_lengths(self, query: int | None, document: int | None) -> TextPipeline:
        """The same tokenizer and rules with other lengths (None: as they are); itself where nothing changes.

        Raises:
            InvalidInput: see `limit`.
        """
        asked = {"query": self.limit("query", query), "document": self.limit("document", document)}
        changed = {
            kind: msgspec.structs.replace(rules, max_tokens=asked[kind])
            for kind, rules in self._rules().items()
            if rules.max_tokens != asked[kind]
        }
        if not changed:
            return self
        other = copy.copy(self)
        other.contract = msgspec.structs.replace(self.contract, **changed)
        return other

    def _rules(self) -> dict[str, TextRules]:
        return {"query": self.contract.query, "document": self.contract.document}

    def _drop_table(self, rules: TextRules) -> npt.NDArray[np.bool_] | None:
        if not rules.skiplist and rules.kept is None:
            return None
        table = np.full(self._ids(*rules.skiplist, *(rules.kept or ())), rules.kept is not None)
        table[list(rules.kept or ())] = False
        table[list(rules.skiplist)] = True
        return table

    def _swap_table(self, rules: TextRules) -> Int64 | None:
        if not rules.swaps:
            return None
        table = np.arange(self._ids(*(old for old, _ in rules.swaps)))
        for old, new in rules.swaps:
            table[old] = new
        return table

    def _ids(self, *named: int) -> int:
        """Rows of a table by token id that has one for each of the vocabulary's, and of `named` ids."""
        contract = self.contract
        markers = (contract.query.marker, contract.document.marker)
        fills = (rules.expansion.token for rules in self._rules().values() if rules.expansion)
        added = (
            *contract.frame.prefix,
            *contract.frame.suffix,
            *(m for m in markers if m is not None),
            *fills,
        )
        return max(self._tokenizer.get_vocab_size(), *(i + 1 for i in (*named, *added, 0)))

    def limit(self, kind: str, max_tokens: int | None) -> int:
        """Tokens a text may have in all, markers included.

        Raises:
            InvalidInput: more than the model takes, or too few for the markers and one token.
        """
        rules = self._rules()[kind]
        if max_tokens is None:
            return rules.max_tokens
        least, most = added_tokens(self.contract.frame, rules) + 1, self.contract.most_tokens(rules)
        if not isinstance(max_tokens, int) or not least <= max_tokens <= most:
            raise InvalidInput(
                f"max_length should be in {least}..{most} for model "
                f'"{self.contract.name}", got {max_tokens!r}.'
            )
        return max_tokens

    def room(self, kind: str) -> int:
        """Tokens of its own that a text may have which is read at once, markers and prompt not counted."""
        rules = self._rules()[kind]
        prompt = self._tokenizer.encode(rules.prompt, add_special_tokens=False)
        return self._body_room(rules, min(rules.max_tokens, self.contract.max_tokens)) - len(prompt.ids)

    def legibility(self, texts: Sequence[str]) -> Letters:
        """Letters of checked texts, and those of them that the model does not read."""
        return self._legibility.letters([self._given(text) for text in texts])

    def text_tokens(self, texts: Sequence[str]) -> list[TextTokens]:
        """All tokens of each checked text by itself: no markers, no prompt, nothing cut off."""
        found = []
        for parts in self.token_parts(texts):
            spans: list[Span] = []
            begins: list[bool] = []
            for part in parts:
                spans += part.spans
                begins += part.begins
            found.append(TextTokens(spans, begins))
        return found

    def token_parts(self, texts: Sequence[str]) -> Iterator[Iterable[TextTokens]]:
        """`text_tokens` of each text in parts, so that memory never holds all tokens of a very long one.

        A word of more characters than a part may be cut into other tokens than in the whole text.
        """
        read = [self._given(text) for text in texts]
        short = [given for given in read if len(given) <= _STRETCH]
        encodings = iter(self._tokenizer.encode_batch(short, add_special_tokens=False))
        for text, given in zip(texts, read, strict=True):
            origins = self._origins(text, given)
            if len(given) <= _STRETCH:
                encoding = next(encodings)
                yield [TextTokens(_moved(encoding.offsets, origins), _begins(encoding.word_ids))]
            else:
                yield self._long_parts(given, origins)

    def _long_parts(self, given: str, origins: list[int] | None) -> Iterator[TextTokens]:
        for each in self._stretches.of(given, _STRETCH, exact=False):
            yield TextTokens(_moved(each.spans, origins), each.begins)

    def _prompt_ids(self, rules: TextRules) -> list[int]:
        """Tokens of the prompt whose vectors are dropped, none where they are kept."""
        if rules.prompt_kept:
            return []
        return self._tokenizer.encode(self._given(rules.prompt.strip()), add_special_tokens=False).ids

    def _repeated_ids(self, rules: TextRules) -> list[int]:
        """Tokens of the prompt that every window of a document begins with."""
        if rules.window is None or not rules.prompt:
            return []
        return self._tokenizer.encode(self._given(rules.prompt.strip()), add_special_tokens=False).ids

    def _given(self, text: str) -> str:
        """The text as the tokenizer is given it."""
        # Lowercased before the tokenizer, which then finds no [MASK] that a text spells out.
        return text.lower() if self.contract.lowercase else text

    def _origins(self, text: str, given: str) -> list[int] | None:
        """The character of a text that each one of `given` came from; None where they stand at its place."""
        if len(given) == len(text):
            return None
        return [i for i, letter in enumerate(text) for _ in letter.lower()]  # a letter may become two

    def tokenize(
        self, texts: Sequence[str], kind: str, max_tokens: int | None = None, at_once: bool = False
    ) -> list[TokenIds]:
        """Token ids of every text.

        Args:
            texts: checked texts (see `check_texts`).
            kind: "query" or "document".
            max_tokens: tokens in all, those that windows after the first have once more not counted; the
                contract's by default.
            at_once: documents are read in one window, and so no further than the model's positions go.
        """
        rules = self._rules()[kind]
        limit = self.limit(kind, max_tokens)
        window = None if at_once else rules.window
        if at_once:
            limit = min(limit, self.contract.max_tokens)
        prompted = [rules.prompt + text for text in texts] if rules.prompt else list(texts)
        if rules.strip:
            prompted = [text.strip() for text in prompted]
        prompted = [self._given(text) for text in prompted]
        room = self._body_room(rules, limit)
        short = [text for text in prompted if len(text) <= self._at_once(room)]
        if window is not None:
            # Where words begin, the fast way does not say.
            whole = iter(self._tokenizer.encode_batch(short, add_special_tokens=False))
            found = []
            for text in prompted:
                if len(text) <= self._at_once(room):
                    encoding = next(whole)
                    ids, begins = encoding.ids, _begins(encoding.word_ids)
                else:
                    ids, _, begins = self._beginning(text, room + 1)
                found.append(self._in_windows(ids, begins, limit, window))
            return found
        bodies = iter(self._tokenizer.encode_batch_fast(short, add_special_tokens=False))
        return [
            self._assemble(
                next(bodies).ids if len(text) <= self._at_once(room) else self._beginning(text, room + 1).ids,
                kind,
                limit,
            )
            for text in prompted
        ]

    def _in_windows(self, body: list[int], begins: list[bool], limit: int, window: int) -> TokenIds:
        """A document's tokens in windows of at most `window` of its own, each with prompt and markers."""
        room = self._body_room(self.contract.document, limit)
        positions = self._body_room(self.contract.document, self.contract.max_tokens)
        window = max(1, min(window, positions - len(self._repeated)))
        prompt = _n_alike(self._repeated, body)
        own = range(prompt, min(len(body), room))
        if len(own) <= window:
            return self._assemble(body, "document", limit)
        parts = [
            self._assemble([*self._repeated, *(body[own[i]] for i in part)], "document", limit)
            for part in windows([begins[i] for i in own], window)
        ]
        keeps = [np.ones(len(part.ids), np.bool_) if part.keep is None else part.keep for part in parts]
        ids, keep = np.concatenate([part.ids for part in parts]), np.concatenate(keeps)
        cuts = tuple(np.cumsum([len(part.ids) for part in parts])[:-1].tolist())
        return TokenIds(ids, len(ids), None if keep.all() else keep, len(body) > room, cuts)

    @staticmethod
    def _at_once(n_tokens: int) -> int:
        """Characters of a text that are tokenised at once, where so many tokens are wanted."""
        return max(2048, 8 * n_tokens)

    def _beginning(self, text: str, n_tokens: int) -> Stretch:
        """The first tokens of a text, at least so many where it has them."""
        found = Stretch([], [], [])
        for stretch in self._stretches.of(text, self._at_once(n_tokens)):
            for all_, some in zip(found, stretch, strict=True):
                all_ += some  # type: ignore[operator]
            if len(found.ids) >= n_tokens:
                break
        return found

    def _body_room(self, rules: TextRules, limit: int) -> int:
        """Tokens that a prompted text may have, where it may have `limit` in all."""
        return limit - added_tokens(self.contract.frame, rules)

    def tokenize_queries(self, texts: Sequence[str], full_length: bool) -> list[TokenIds]:
        """`tokenize` for queries; with `full_length`, long ones are cut only at the model's limit."""
        if not full_length:
            return self.tokenize(texts, "query")
        return self.tokenize(texts, "query", self.contract.max_tokens)

    def _assemble(self, body: list[int], kind: str, limit: int) -> TokenIds:
        rules, dropped, swapped = self._rules()[kind], self._dropped[kind], self._swapped[kind]
        frame = self.contract.frame
        head = [*frame.prefix, rules.marker] if rules.marker is not None else [*frame.prefix]
        room = self._body_room(rules, limit)
        ids = np.array([*head, *body[:room], *frame.suffix], np.int64)
        if swapped is not None:
            ids = swapped[ids]
        attended = len(ids)
        if rules.expansion is not None:
            # To the contract's length, never beyond.
            full = min(limit, rules.expansion.length or rules.max_tokens)
            if len(ids) < full:
                filled = np.full(full, rules.expansion.token, np.int64)
                filled[: len(ids)] = ids
                ids = filled
                if rules.expansion.attend:
                    attended = full
        keep = None if dropped is None else ~dropped[ids]
        if self._prompts[kind]:
            keep = _without(keep, len(ids), len(head), _n_alike(self._prompts[kind], body[:room]))
        return TokenIds(ids, attended, keep, len(body) > room)

    def spans(self, text: str, kind: str, max_tokens: int | None = None) -> list[Span]:
        """For each kept vector of a text, the characters it stands for; (0, 0) for added tokens."""
        return self.spans_many([text], kind, max_tokens)[0]

    def spans_many(self, texts: Sequence[str], kind: str, max_tokens: int | None = None) -> list[list[Span]]:
        """`spans` of each text."""
        found = []
        for text, tokens in zip(texts, self.tokenize(texts, kind, max_tokens), strict=True):
            spans = self._token_spans(text, kind, tokens, max_tokens)
            kept = [True] * len(spans) if tokens.keep is None else tokens.keep
            found.append([span for span, keep in zip(spans, kept, strict=True) if keep])
        return found

    def part_rows(self, text: str, tokens: TokenIds, parts: Sequence[Span]) -> Iterator[PartRows]:
        """Which vectors of a document belong to each of its parts, by the characters [start, stop) of these.

        A token belongs to every part that it begins in, and what was put around the text to all of them.

        Args:
            tokens: of the text, as `tokenize` gives them at once.
        """
        most = self.contract.max_tokens
        spans = np.array(self._token_spans(text, "document", tokens, None, most), np.int64).reshape(-1, 2)
        starts, ends = spans.T
        added, unread = ends == 0, min(int(ends.max(initial=0)) + 1, len(text))
        for start, stop in parts:
            rows = added | ((starts >= start) & ((starts < stop) | (stop >= len(text))))
            kept = rows if tokens.keep is None else rows[tokens.keep]
            yield PartRows(kept, tokens.truncated and stop >= unread)

    def _token_spans(
        self, text: str, kind: str, tokens: TokenIds, max_tokens: int | None, most: int = MOST_IN_WINDOWS
    ) -> list[Span]:
        """The characters that each token stands for, kept or not; (0, 0) for added ones.

        Args:
            most: tokens that the text may have had whatever its rules say.
        """
        rules = self._rules()[kind]
        prompted = rules.prompt + text
        shift = len(rules.prompt)
        if rules.strip:
            shift -= len(prompted) - len(prompted.lstrip())
            prompted = prompted.strip()
        before = len(self.contract.frame.prefix) + (rules.marker is not None)
        room = self._body_room(rules, min(self.limit(kind, max_tokens), most))
        given = self._given(prompted)
        read = self._beginning(given, room)
        found = _moved(read.spans[:room], self._origins(prompted, given))
        body = [(max(0, a - shift), max(0, b - shift)) for a, b in found]
        if not tokens.cuts:
            spans = [(0, 0)] * before + body
            return spans + [(0, 0)] * (len(tokens.ids) - len(spans))
        own = iter(body[_n_alike(self._repeated, read.ids) :])
        before, behind = before + len(self._repeated), len(self.contract.frame.suffix)
        spans = []
        for window in tokens.windows():
            taken = itertools.islice(own, len(window.ids) - before - behind)
            spans += [*[(0, 0)] * before, *taken, *[(0, 0)] * behind]
        return spans


def _begins(words: Sequence[int | None]) -> list[bool]:
    """Whether each token is the first of a word, by the words that tokens are of."""
    return [b is None or a != b for a, b in zip([None, *words], words, strict=False)]


def _n_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with alike: a text that melts into the prompt keeps the tokens of both."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _without(
    keep: npt.NDArray[np.bool_] | None, n: int, start: int, n_dropped: int
) -> npt.NDArray[np.bool_] | None:
    """Which of n rows are kept if so many from `start` on are not; as before where that leaves none."""
    less = np.ones(n, np.bool_) if keep is None else keep.copy()
    less[start : start + n_dropped] = False
    return less if less.any() else keep


def _moved(spans: list[Span], origins: list[int] | None) -> list[Span]:
    """Spans of what a tokenizer was given, in the text that it was made of; see `TextPipeline._origins`."""
    if origins is None:
        return spans
    return [(origins[a], origins[b - 1] + 1) if b > a else (0, 0) for a, b in spans]
