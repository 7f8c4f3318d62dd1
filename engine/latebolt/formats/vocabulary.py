"""Reads a checkpoint's tokenizer: its frame, its special tokens, its skiplist ids.

What it hands on neither truncates nor pads; lengths are the contract's business.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers

from latebolt.contract import Frame
from latebolt.errors import ModelError
from latebolt.formats import named_tokens
from latebolt.formats.settings_file import SettingsFile

FILE_NAME = "tokenizer.json"
SETTINGS, MAP = "tokenizer_config.json", "special_tokens_map.json"
WORDPIECE, SENTENCEPIECE = "vocab.txt", "sentencepiece.bpe.model"
# What transformers makes tokenizers of; vocab.json means a byte-level BPE with its merges.txt.
SOURCES = (WORDPIECE, SENTENCEPIECE, "spiece.model", "spm.model", "vocab.json")
# What the libraries' classes fall back to when no configuration names a token; those of GENERIC have no such.
USUAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
}
SPECIAL = (*USUAL, "bos_token", "eos_token")
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Tokenizer classes that give BERT's normalizer these settings, whatever tokenizer.json says: the field of
# the normalizer -> the setting and its value where none is given.
BERT_LIKE = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer")
SENTENCEPIECE_LIKE = ("XLMRobertaTokenizer", "CamembertTokenizer", "RobertaTokenizer")
BERT_SETTINGS = {
    "lowercase": ("do_lower_case", True),
    "strip_accents": ("strip_accents", None),
    "handle_chinese_chars": ("tokenize_chinese_chars", True),
}
MAKE = f"Make a {FILE_NAME} with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."


@dataclass(frozen=True, eq=False)
class ConvertedTokenizer:
    """A tokenizer made of other files than tokenizer.json, and the tokens that its class has for roles."""

    tokenizer: Tokenizer
    roles: Mapping[str, str]


class Vocabulary:
    """The tokenizer of one checkpoint folder, which `made` is where that has no tokenizer.json.

    Raises:
        ModelError: the folder has no readable tokenizer.json.
    """

    def __init__(self, folder: Path, made: ConvertedTokenizer | None = None) -> None:
        self.folder = folder
        self.tokenizer = _read(folder) if made is None else made.tokenizer
        self._roles = None if made is None else made.roles
        self.settings, self._map = SettingsFile(folder / SETTINGS), SettingsFile(folder / MAP)
        self._sides = {
            "truncation_side": (self.tokenizer.truncation or {}).get("direction"),
            "padding_side": (self.tokenizer.padding or {}).get("direction"),
        }
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def load_as_transformers_does(self) -> None:
        """Do to the tokenizer what transformers does to it by the settings beside it.

        Source: transformers, PreTrainedTokenizerFast.__init__ and BertTokenizerFast.__init__ (4),
        TokenizersBackend.__init__ and BertTokenizer.__init__ (5).

        Raises:
            ModelError: it asks for something that no contract can say.
        """
        path = self.folder / SETTINGS
        for side, found in self._sides.items():
            if (asked := self.settings.value(side) or found or "right") != "right":
                raise ModelError(f'{path}: {side} = "{asked}" is not supported, only "right" is.')
        if self.settings.value("split_special_tokens"):
            raise ModelError(f"{path}: split_special_tokens = True is not supported.")
        for token in named_tokens.numbered(self.settings).values():
            if self.tokenizer.token_to_id(token.content) is None:
                raise ModelError(f'{path}: adds the token "{token.content}", which {FILE_NAME} lacks.')
        self._settle_normalizer()
        added = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        special = [name for role in SPECIAL for name in self.names(role)]
        missing = [
            name
            for name in dict.fromkeys(special)
            if name not in added and self.tokenizer.token_to_id(name) is not None
        ]
        # They are in the vocabulary already, so no id is new.
        self.tokenizer.add_special_tokens(
            [AddedToken(name, lstrip=name == "<mask>", normalized=False) for name in missing]
        )

    def _settle_normalizer(self) -> None:
        kind = self.settings.text("tokenizer_class", "").removesuffix("Fast")
        if kind in SENTENCEPIECE_LIKE and '"Lowercase"' in self.tokenizer.to_str().partition('"model"')[0]:
            raise ModelError(
                f"{self.folder / FILE_NAME}: the normalizer Lowercase is what transformers 4 goes by, "
                f"while 5 leaves it out. Save the model again without it."
            )
        if kind not in BERT_LIKE:
            return
        for part, usual in (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer")):
            if (found := type(getattr(self.tokenizer, part)).__name__) != usual:
                raise ModelError(
                    f"{self.folder / FILE_NAME}: {part} = {found} is what transformers 4 goes by, while 5 "
                    f"takes {kind}'s own, {usual}. Save the model again with the one it was trained with."
                )
        own: dict[str, Any] = json.loads(self.tokenizer.to_str())["normalizer"]
        asked = bert_settings(self.settings)
        if any(own[field] != value for field, value in asked.items()):
            self.tokenizer.normalizer = normalizers.BertNormalizer(clean_text=own["clean_text"], **asked)

    @property
    def max_length(self) -> int:
        """Tokens that the libraries cut a text to where no setting of the model's says otherwise."""
        length = self.settings.value("model_max_length")
        return int(length) if isinstance(length, int | float) and 0 < length < sys.maxsize else sys.maxsize

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def json(self) -> str:
        """What the model folder's tokenizer.json should say."""
        return self.tokenizer.to_str()

    def frame(self, pad: int | None = None) -> Frame:
        """The ids the tokenizer's own template puts around a text, and the padding id (else found)."""
        encoding = self.tokenizer.encode("a")
        special = [bool(flag) for flag in encoding.special_tokens_mask]
        if all(special):
            raise ModelError(f'{self.folder / FILE_NAME}: the text "a" gives no token of its own.')
        first = special.index(False)
        last = len(special) - special[::-1].index(False)
        prefix, suffix = tuple(encoding.ids[:first]), tuple(encoding.ids[last:])
        if any(encoding.type_ids):
            raise ModelError(
                f"{self.folder / FILE_NAME}: gives a text other token types than 0, which is not supported."
            )
        return Frame(prefix=prefix, suffix=suffix, pad=self.special("pad_token") if pad is None else pad)

    def special(self, *roles: str) -> int:
        """The id of the first of these roles (`pad_token`, `mask_token`, ...) that the checkpoint fills.

        Raises:
            ModelError: no file names one that the vocabulary holds.
        """
        for role in roles:
            if (found := self.found(role)) is not None:
                return found
        raise ModelError(
            f"{self.folder}: no {' or '.join(roles)} in tokenizer_config.json or special_tokens_map.json "
            f"that the vocabulary holds. Add it to tokenizer_config.json."
        )

    def found(self, role: str) -> int | None:
        """The id of the token that fills a role; None where none does."""
        return next((i for i in map(self.tokenizer.token_to_id, self.names(role)) if i is not None), None)

    def names(self, role: str) -> list[str]:
        """The tokens that may fill a role, the one that is named first."""
        found = [named_tokens.in_role(file, role) for file in (self.settings, self._map)]
        if self._roles is not None:
            usual = [self._roles[role]] if role in self._roles else []
        else:
            usual = [] if self.settings.text("tokenizer_class", "") in GENERIC else list(USUAL.get(role, ()))
        return [token.content for token in found if token and token.content] or usual

    def id_of(self, token: str, field: str) -> int:
        """The id of a token that a configuration names.

        Raises:
            ModelError: the vocabulary does not hold it.
        """
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f'{self.folder}: {field} names the token "{token}", which {FILE_NAME} lacks.')
        return found

    def first_pieces(self, words: list[str]) -> tuple[int, ...]:
        """Stanford's skiplist dialect: the first piece of each encoded word, ascending.

        Source: colbert/modeling/colbert.py, `skiplist`.
        """
        encoded = (self.tokenizer.encode(word, add_special_tokens=False).ids for word in words)
        return tuple(sorted({ids[0] for ids in encoded if ids}))

    def exact_tokens(self, words: list[str]) -> tuple[int, ...]:
        """PyLate's skiplist dialect: the token that is the word, else the unknown token, ascending.

        Source: pylate/models/colbert.py, `convert_tokens_to_ids`, which maps what it lacks to unknown.
        """
        unknown = self.found("unk_token")
        lacks = any(self.tokenizer.token_to_id(word) is None for word in words)
        return tuple(
            sorted(self.known_tokens(words) | ({unknown} if lacks and unknown is not None else set()))
        )

    def known_tokens(self, words: list[str]) -> set[int]:
        """sentence-transformers' skiplist dialect: the token that is the word, none where there is no such.

        Source: sentence_transformers, MultiVectorMask.resolve_with_tokenizer.
        """
        return {i for i in map(self.tokenizer.token_to_id, words) if i is not None}


def _read(folder: Path) -> Tokenizer:
    path = folder / FILE_NAME
    if not path.is_file():
        if any((folder / name).is_file() for name in SOURCES):
            raise ModelError(f"{folder}: has no {FILE_NAME}. {MAKE}")
        raise ModelError(
            f"{folder}: has no {FILE_NAME}, and nothing that one is made of. Download all files of the "
            f"model, or get a {FILE_NAME} from its authors."
        )
    try:
        return Tokenizer.from_buffer(path.read_bytes())  # not from_file, which takes half as long again
    except Exception as error:  # the Rust side raises plain Exception
        raise ModelError(f"{path}: is not a tokenizer ({error}). Download it again.") from error


def bert_settings(settings: SettingsFile) -> dict[str, Any]:
    """What transformers gives BERT's normalizer by a tokenizer_config.json."""
    return {
        field: usual if settings.value(key) is None else settings.flag(key, False)
        for field, (key, usual) in BERT_SETTINGS.items()
    }


PUNCTUATION = list(string.punctuation)
