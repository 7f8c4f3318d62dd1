"""Small rules for what callers pass in, the same at every entrance: numbers, queries, text, names, fields.

Pure functions; each gives the value as the library goes on with it, or says what is wrong with it.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, SupportsIndex, TypeVar

from latebolt.errors import InvalidInput

T = TypeVar("T")

PASSAGE_KEYS: Final = ("text", "content", "page_content")


def clean_text(text: str) -> str:
    """`text` with U+FFFD for each half of a character: a surrogate that stands alone.

    UTF-8 and the tokenizers cannot hold one, and programs that cut strings by UTF-16 units leave them behind.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two halves that belong together (as JSON escapes give them one by one) make their character again.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class CheckedTexts(list[str]):
    """Texts that were checked and cleaned, as `check_texts` gives them; nobody changes one."""


def check_texts(texts: Sequence[str], what: str = "texts") -> CheckedTexts:
    """Texts with lone surrogates replaced by U+FFFD (they have no UTF-8 form); checked ones as they are.

    Raises:
        InvalidInput: not a list of str; names the position.
    """
    if isinstance(texts, CheckedTexts):
        return texts
    if isinstance(texts, str | bytes):
        raise InvalidInput(
            f"{what} should be a list of str, got one {type(texts).__name__}. Put it in a list."
        )
    checked = CheckedTexts()
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"{what}[{i}] should be str, got {type(text).__name__}.")
        checked.append(clean_text(text))
    return checked


def whole_number(value: SupportsIndex, name: str, least: int = 1) -> int:
    """`value` as an int; NumPy's integers are whole numbers too, truth values are not.

    Raises:
        InvalidInput: it is not a whole number of at least `least`.
    """
    # NumPy's truth values have no __index__ from version 2 on; Python's have.
    if not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if number >= least:
                return number
    raise InvalidInput(f"{name} should be an int of at least {least}, got {value!r}.")


def check_k(k: SupportsIndex, name: str = "k") -> int:
    """How many hits are wanted, as an int.

    Raises:
        InvalidInput: it is not a whole number of at least 1.
    """
    return whole_number(k, name)


def check_many(values: object, name: str) -> None:
    """Raise InvalidInput for what would be walked as something else than the list that is meant.

    One str is a list of its characters to Python, and a dict, a DataFrame or a table one of its keys.
    """
    kind = type(values).__name__
    if isinstance(values, str | bytes):
        raise InvalidInput(f"{name} should be a list or another iterable, got one {kind}. Put it in a list.")
    if isinstance(values, Mapping) or any(hasattr(values, each) for each in ("__dataframe__", "columns")):
        raise InvalidInput(
            f'{name} should be a list or another iterable, got one {kind}. Give one column: {name}["NAME"].'
        )
    if not isinstance(values, Iterable):
        raise InvalidInput(f"{name} should be a list or another iterable, got {kind}.")


def renamed(name: str, value: T | None, old_name: str, old: T | None) -> T | None:
    """The value of a setting that had another name in earlier versions; whoever uses that is warned.

    Raises:
        InvalidInput: both are given.
    """
    if old is None:
        return value
    if value is not None:
        raise InvalidInput(f"{name} and {old_name}, its old name, are both given. Leave {old_name} out.")
    warnings.warn(
        f"{old_name} is called {name} now; the next version no longer knows {old_name}.",
        DeprecationWarning,
        stacklevel=3,
    )
    return old


def check_timeout(timeout: float | None) -> float:
    """How long to wait, in seconds; 0.0 for None, infinity to wait for ever.

    Raises:
        InvalidInput: it is neither None nor a number of at least 0.
    """
    if timeout is None:
        return 0.0
    if not isinstance(timeout, bool | str | bytes):
        try:
            seconds = float(timeout)
        except (TypeError, ValueError):
            pass
        else:
            if seconds >= 0:  # not true of NaN
                return seconds
    raise InvalidInput(f"timeout should be None or a number of seconds of at least 0, got {timeout!r}.")


def passage_text(document: object, where: str) -> str:
    """The text of a passage to be ranked: a str, or what a dict has as "text" or "content", as clean text.

    Args:
        where: what the message calls it, e.g. "documents[3]".
    Raises:
        InvalidInput: it is neither.
    """
    if isinstance(document, Mapping):
        found = next((document[key] for key in PASSAGE_KEYS if isinstance(document.get(key), str)), None)
        if found is None:
            keys = ", ".join(map(repr, document)) or "nothing"
            raise InvalidInput(f'{where} should have a "text" or "content" that is a str; it has {keys}.')
        document = found
    if not isinstance(document, str):
        raise InvalidInput(f'{where} should be str, or a dict with a "text", got {type(document).__name__}.')
    return clean_text(document)


def check_query(query: str) -> str:
    """The query as it is encoded.

    Raises:
        InvalidInput: it is not a str, or has no text in it.
    """
    if not isinstance(query, str):
        raise InvalidInput(f"the query should be str, got {type(query).__name__}.")
    if not query.strip():
        raise InvalidInput("the query is empty. Give it at least one word.")
    return clean_text(query)


def unknown_name(name: str, known: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """What to say of a setting or field that there is not, with the one that was probably meant.

    Args:
        known: those that there are.
        also: other names -> the known one that they stand for.
    """
    known = list(known)
    meant = (also or {}).get(name.lower())
    if meant not in known:
        import difflib  # only who mistypes waits for it

        meant = next(iter(difflib.get_close_matches(name.lower(), known, 1)), None)
    hint = f'did you mean "{meant}"? ' if meant else ""
    return f"is not known here; {hint}There are: {', '.join(known)}."


def metadata_of(record: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any] | None:
    """A document's metadata: its object "metadata", and all its other fields that hold something.

    Args:
        record: the document as a JSON object.
        taken: fields that are something else, its id and its text.
    Raises:
        InvalidInput: a field stands beside "metadata" and in it, with another value.
    """
    given = record.get("metadata")
    inner = given if isinstance(given, dict) else {}
    taken = {*taken, "metadata"} if isinstance(given, dict) else set(taken)
    outer = {k: v for k, v in record.items() if k not in taken and v not in ("", None, {})}
    for name in outer.keys() & inner.keys():
        if outer[name] != inner[name]:
            raise InvalidInput(f'the field "{name}" has one value beside "metadata" and another in it.')
    return {**outer, **inner} or None
