"""Reads the tokens that a tokenizer's settings name: by a string, or by an object with flags of its own.

What a token is for is the vocabulary's business; here each is what it should be, or an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from latebolt.formats.settings_file import SettingsFile

DECODER, FURTHER = "added_tokens_decoder", "additional_special_tokens"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class NamedToken:
    """A token by its text, and the flags that the settings give it; None where they give its text alone."""

    content: str
    flags: Mapping[str, bool] | None = None

    def added(self, **more: bool) -> AddedToken:
        """As the tokenizers library adds it; `more` flags override its own."""
        return AddedToken(self.content, **{**(self.flags or {}), **more})


def in_role(file: SettingsFile, role: str) -> NamedToken | None:
    """The token that fills a role (`mask_token`, ...); None where the file names none, or an empty one.

    Raises:
        ModelError: it is no token. So does every function here.
    """
    found = file.value(role, "")
    return None if found == "" else _token(file, role, found)


def further(file: SettingsFile) -> Iterator[NamedToken]:
    """The special tokens that fill no role."""
    for token in file.array(FURTHER):
        yield _token(file, FURTHER, token)


def numbered(file: SettingsFile) -> dict[int, NamedToken]:
    """The tokens that have ids of their own, by id."""
    found = {}
    for key, token in file.object(DECODER).items():
        if not (key.isascii() and key.isdecimal() and len(key) < 12):
            raise file.refusal(DECODER, f'has the key "{key[:40]}", which is no id. Correct the file.')
        if not isinstance(token, dict):
            raise file.refusal(DECODER, f"has no object with a content at {key}. Correct the file.")
        found[int(key)] = _token(file, DECODER, token, f" at {key}")
    return found


def _token(file: SettingsFile, key: str, found: Any, where: str = "") -> NamedToken:
    """`where` in the setting the token stands, for messages."""
    content = found.get("content") if isinstance(found, dict) else found
    if not isinstance(content, str):
        raise file.refusal(
            key, f"should name a token{where}: a string, or an object with a content. Correct the file."
        )
    if not isinstance(found, dict):
        return NamedToken(content)
    flags = {flag: found[flag] for flag in FLAGS if found.get(flag) is not None}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise file.refusal(key, f"should have true or false for {flag}{where}. Correct the file.")
    return NamedToken(content, flags)
