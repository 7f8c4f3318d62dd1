"""Small rules for what callers pass in, the same at every entrance: whole numbers, queries, text.

Pure functions; each gives the value as the library goes on with it, or says what is wrong with it.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

from latebolt.errors import InvalidInput


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
