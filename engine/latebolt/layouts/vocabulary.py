"""Reads a checkpoint's tokenizer: its frame, its special tokens, its skiplist ids.

What it hands on neither truncates nor pads; lengths are the contract's business.
"""

from __future__ import annotations

import string
from pathlib import Path

from tokenizers import Tokenizer

from latebolt.contract import Frame
from latebolt.errors import ModelError
from latebolt.layouts.files import read_settings

FILE_NAME = "tokenizer.json"
# What the libraries fall back to when no configuration names a token.
USUAL = {"pad_token": ("[PAD]", "<pad>"), "mask_token": ("[MASK]", "<mask>")}


class Vocabulary:
    """The tokenizer of one checkpoint folder.

    Raises:
        ModelError: the folder has no readable tokenizer.json.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / FILE_NAME
        if not path.is_file():
            raise ModelError(
                f"{folder}: has no {FILE_NAME}. Make one with transformers: "
                f"AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
            )
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises plain Exception
            raise ModelError(f"{path}: is not a tokenizer ({error}). Download it again.") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

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
        return Frame(prefix=prefix, suffix=suffix, pad=self.special("pad_token") if pad is None else pad)

    def special(self, *roles: str) -> int:
        """The id of the first of these roles (`pad_token`, `mask_token`, ...) that the checkpoint fills.

        Raises:
            ModelError: no file names one that the vocabulary holds.
        """
        for role in roles:
            for name in (*self._names(role), *USUAL.get(role, ())):
                if (found := self.tokenizer.token_to_id(name)) is not None:
                    return found
        raise ModelError(
            f"{self.folder}: no {' or '.join(roles)} in tokenizer_config.json or special_tokens_map.json "
            f"that the vocabulary holds. Add it to tokenizer_config.json."
        )

    def _names(self, role: str) -> list[str]:
        found = []
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            token = read_settings(self.folder / file).get(role)
            found.append(token.get("content") if isinstance(token, dict) else token)
        return [name for name in found if name]

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
        unknown = [self.tokenizer.token_to_id(name) for name in self._names("unk_token")]
        found = [self.tokenizer.token_to_id(word) for word in words]
        if None in found:
            found += unknown[:1]
        return tuple(sorted({i for i in found if i is not None}))


PUNCTUATION = list(string.punctuation)
