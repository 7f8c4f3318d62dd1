"""Reads the settings of one file so that none is passed over: each is read, known as harmless, or an error.

A setting that nobody looked at is how a model comes out wrong without a word. Which settings there are, and
what they mean, is the layouts' business.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from latebolt.errors import ModelError
from latebolt.formats.files import integer, read_settings


class SettingsFile:
    """The settings in a file; none where there is no file. A null counts as not said.

    Raises:
        ModelError: the file holds no JSON object. Every method: a value is not what it should be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = read_settings(path)
        self._read: set[str] = set()

    def value(self, key: str, fallback: Any = None) -> Any:
        """Whatever it is."""
        self._read.add(key)
        found = self.settings.get(key)
        return fallback if found is None else found

    def integer(self, key: str, fallback: int) -> int:
        """A whole number."""
        self._read.add(key)
        return integer(self.settings, key, fallback, self.path)

    def flag(self, key: str, fallback: bool) -> bool:
        """True or false."""
        return bool(self._of(key, fallback, (bool,), "true or false"))

    def text(self, key: str, fallback: str) -> str:
        """A string."""
        return str(self._of(key, fallback, (str,), "a string"))

    def texts(self, key: str, fallback: Sequence[str]) -> list[str]:
        """A list of strings."""
        found = self._of(key, list(fallback), (list,), "a list of strings")
        if not all(isinstance(each, str) for each in found):
            raise self.refusal(key, "should be a list of strings. Correct the file.")
        return list(found)

    def texts_by_name(self, key: str) -> dict[str, str]:
        """An object whose values are strings; a null in it counts as not said."""
        found = {name: value for name, value in self.object(key).items() if value is not None}
        if not all(isinstance(each, str) for each in found.values()):
            raise self.refusal(key, "should hold strings. Correct the file.")
        return found

    def object(self, key: str) -> dict[str, Any]:
        """An object, whatever it holds; empty where none is given."""
        return dict(self._of(key, {}, (dict,), "an object"))

    def array(self, key: str) -> list[Any]:
        """A list, whatever it holds; empty where none is given."""
        return list(self._of(key, [], (list,), "a list"))

    def only(self, key: str, allowed: Collection[Any], reason: str) -> None:
        """Let a setting pass that has one of these values, or is not said.

        Args:
            reason: what is to be said of any other value, a sentence's end: "is not supported. ...".
        """
        if self.value(key) is not None and self.value(key) not in allowed:
            raise self.refusal(key, reason)

    def _of(self, key: str, fallback: Any, kinds: tuple[type, ...], wanted: str) -> Any:
        found = self.value(key, fallback)
        if not isinstance(found, kinds):
            raise self.refusal(key, f"should be {wanted}. Correct the file.")
        return found

    def refusal(self, key: str, reason: str) -> ModelError:
        """The error that names a setting and its value."""
        return ModelError(f"{self.path}: {key} = {_shown(self.settings.get(key))} {reason}")

    def finish(self, harmless: Collection[str]) -> None:
        """Called once all is read.

        Args:
            harmless: settings that no token vector depends on.
        Raises:
            ModelError: there is a setting that is neither read nor harmless; the message names it.
        """
        for key in self.settings:
            if key not in self._read and key not in harmless:
                raise self.refusal(
                    key, "is a setting that is not known here, so vectors could come out wrong. Remove it if "
                    "the model does not depend on it."
                )  # fmt: skip


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
