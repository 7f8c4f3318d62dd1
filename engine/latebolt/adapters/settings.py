"""Settings that callers give by name: an unknown one is refused, and the one that was meant is named.

A setting under another name that is ignored does not fail, it answers with more: of every tenant, every year.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from latebolt.checks import unknown_name
from latebolt.errors import UnknownSetting

# What other libraries call what we have; of several, the first that the place knows is meant.
_MEANT: Final[Mapping[str, tuple[str, ...]]] = {
    "filter": ("where", "filters"),
    "filters": ("where", "filters"),
    "query_filter": ("where", "filters"),
    "where_filter": ("where", "filters"),
    "pre_filter": ("where", "filters"),
    "where": ("filters", "where"),
    "top_k": ("k", "top_n", "similarity_top_k", "top_k"),
    "top_n": ("k", "top_k", "similarity_top_k", "top_n"),
    "similarity_top_k": ("k", "top_n", "top_k"),
    "k": ("similarity_top_k", "top_n", "top_k", "k"),
    "limit": ("k", "top_n", "similarity_top_k", "top_k"),
    "n_results": ("k", "top_n", "similarity_top_k", "top_k"),
    "search_kwargs": ("k", "similarity_top_k"),
    "search_type": ("mode",),
    "query_mode": ("mode",),
    "vector_store_query_mode": ("mode",),
    "model_name": ("model", "model_name_or_path"),
    "model_name_or_path": ("model",),
    "checkpoint": ("model",),
    "encoder": ("model",),
    "folder": ("index",),
    "path": ("index",),
    "vectorstore": ("index",),
    "nbits": ("bits",),
    "max_tokens": ("max_length",),
    "column": ("text_column",),
}


def refuse_unknown(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Refuse the first name that `owner` does not know.

    Raises:
        UnknownSetting: names it, the known one that is nearest to it, and all others.
    """
    names = list(dict.fromkeys(known))
    for name in given:
        if name in names:
            continue
        also = {name.lower(): each for each in reversed(_MEANT.get(name, ())) if each in names}
        raise UnknownSetting(f'{owner}: the setting "{name}" {unknown_name(name, sorted(names), also)}')


def settings_of(function: Callable[..., Any], *apart: str) -> list[str]:
    """The names of a function's own arguments, but for those that are `apart`."""
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        each.name for each in parameters if each.kind in named and each.name not in ("self", "cls", *apart)
    ]
