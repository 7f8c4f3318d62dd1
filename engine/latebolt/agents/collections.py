"""The indexes that agents may ask: by name, opened once, their models loaded when a search first needs them.

Indexes of one model share it. One whose folder was removed, and is there again, is answered again, with the
model of the new one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latebolt.aio import AsyncIndex
from latebolt.encoder.encoder import Encoder
from latebolt.errors import IndexUnusable, InvalidInput
from latebolt.index.index import Index

# A field's name is a document's word, too: one that could say something to a model is not shown to it.
_PLAIN_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}(?:\.[A-Za-z_][A-Za-z0-9_]{0,31}){0,3}")
_MOST_FIELDS: Final = 30
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def named(given: Sequence[str]) -> dict[str, Path]:
    """Name -> folder, of arguments FOLDER or NAME=FOLDER; a folder is named as it is called, without .index.

    Raises:
        InvalidInput: a name does not fit, or stands for two.
    """
    found: dict[str, Path] = {}
    for each in given:
        name, has_name, folder = each.partition("=")
        if not has_name or not _NAME.fullmatch(name):
            folder = each
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(each).absolute().name.removesuffix(".index"))
            name = name.strip("-._")[:64] or "index"
        if name in found:
            raise InvalidInput(f'{each}: two indexes would be called "{name}". Name them: {name}-2={folder}.')
        found[name] = Path(folder).expanduser().absolute()
    return found


class Collections:
    """The indexes.

    Args:
        folders: name -> folder.
        device, threads: for their models; see `Encoder.load`.
    Raises:
        IndexUnusable: one cannot be opened.
    """

    def __init__(self, folders: Mapping[str, Path], device: str = "cpu", threads: int | None = None) -> None:
        self._folders, self._device, self._threads = dict(folders), device, threads
        self._encoders: dict[tuple[str, str, int], Encoder] = {}
        self._loading = asyncio.Lock()
        self._open = {name: AsyncIndex(Index.open(folder)) for name, folder in self._folders.items()}
        self._with_model: dict[str, str] = {}  # name -> fingerprint of the model that is loaded

    @property
    def names(self) -> list[str]:
        """Of all indexes."""
        return list(self._folders)

    def name_of(self, given: str | None) -> str:
        """The index that is meant.

        Raises:
            InvalidInput: there is none of that name, or several to choose from.
        """
        if given is None and len(self._folders) == 1:
            return next(iter(self._folders))
        if given not in self._folders:
            said = "which index?" if given is None else "there is no such index."
            raise InvalidInput(f"index: {said} Give one of: {', '.join(self._folders)}.")
        return given

    def get(self, name: str) -> AsyncIndex:
        """An index as it is, maybe without its model."""
        return self._open[name]

    async def with_model(self, name: str) -> AsyncIndex:
        """An index whose model is loaded.

        Raises:
            LateboltError: it, or its model, cannot be opened.
        """
        async with self._loading:
            index = self._open[name]
            await asyncio.to_thread(len, index.index)  # reads the manifest: another index may be there now
            record = index.index.model
            if record is None or self._with_model.get(name) == record.fingerprint:
                return index
            key = (record.source, record.precision, record.dim)
            if key not in self._encoders:
                self._encoders[key] = await asyncio.to_thread(Encoder.load, *key, self._device, self._threads)
            opened = await asyncio.to_thread(Index.open, self._folders[name], self._encoders[key])
            self._open[name] = AsyncIndex(opened)
            self._with_model[name] = record.fingerprint
        await index.close()  # the one without a model; what was asked of it before is answered
        return self._open[name]

    def fields(self, name: str) -> list[str]:
        """Fields of the documents' metadata whose names are plain words; none where it cannot be opened."""
        try:
            known = self._open[name].index.fields(1000)
        except IndexUnusable:
            return []
        return [field for field in known if _PLAIN_FIELD.fullmatch(field)][:_MOST_FIELDS]

    async def close(self) -> None:
        """Close all indexes and models."""
        for index in list(self._open.values()):
            await index.close()
        for encoder in self._encoders.values():
            encoder.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)


def figures(name: str, info: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """An index for an agent."""
    model = info["model"] and Path(info["model"]).name  # where a model lies is nobody's business
    return {"index": name, "documents": info["documents"], "model": model, "fields": list(fields)}
