"""Gives documents without ids such as are made of what they hold: the same row has the same id again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator

from latebolt.checks import clean_text
from latebolt.corpus.documents import Document
from latebolt.errors import InvalidInput


class Naming:
    """Names the documents of one run, each differently.

    Args:
        taken: ids of documents that are not read, because they are known.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        # Of each file: whether its first row has an id, and where that stands.
        self._firsts: dict[str, tuple[bool, str]] = {}

    def named(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, those without an id with one made of what they hold.

        Raises:
            InvalidInput: some rows of one file have an id and some have none; names the line.
        """
        for document in documents:
            has_id = document.id is not None
            first, place = self._firsts.setdefault(
                document.origin.rpartition(":")[0], (has_id, document.origin)
            )
            if first != has_id:
                lacking, having = (place, document.origin) if has_id else (document.origin, place)
                raise InvalidInput(
                    f"{lacking}: has no id, and {having} has one; of one file some have an id and some have "
                    "none. Give all of them one, or none."
                )
            yield (
                document
                if document.id is not None
                else dataclasses.replace(document, id=self._name(document))
            )

    def _name(self, document: Document) -> str:
        content = json.dumps([document.text, document.metadata], ensure_ascii=False, sort_keys=True)
        name = hashlib.blake2b(clean_text(content).encode(), digest_size=8).hexdigest()
        number, free = 1, name
        while free in self._taken:  # the same row again is another document
            number += 1
            free = f"{name}-{number}"
        self._taken.add(free)
        return free
