"""Passages, queries and rankings as the Stanford library passes and files them.

Source of the surface and of the files: colbert/data and colbert/evaluation/loaders.py of colbert-ai 0.2.22.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from latebolt.adapters.stanford.infra import BadArgument, Run

T = TypeVar("T")


class Collection:
    """Passages by pid, their position: from a list, or a .tsv of `pid <tab> passage [<tab> title]` lines."""

    def __init__(self, path: str | None = None, data: Sequence[str] | None = None) -> None:
        self.path = path
        self.data: Sequence[str] = data if data is not None else self._load(path)

    @staticmethod
    def _load(path: str | None) -> list[str]:
        if path is None:
            raise BadArgument("a Collection needs a path or data.")
        if not path.endswith(".tsv"):
            raise NotImplementedError(f"{path}: a collection is read from a .tsv of pid and passage.")
        passages: list[str] = []
        for number, parts in _lines(path):
            pid, passage, *rest = parts if len(parts) > 1 else (parts[0], None)
            if passage is None or (pid != "id" and pid != str(number)):
                raise BadArgument(
                    f"{path}, line {number + 1}: should be {number} <tab> passage, got {pid!r}."
                )
            passages.append(f"{rest[0]} | {passage}" if rest else passage)
        return passages

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __getitem__(self, item: int) -> str:
        return self.data[item]

    def __len__(self) -> int:
        return len(self.data)

    def provenance(self) -> str | None:
        """The file it comes from."""
        return self.path

    def save(self, new_path: str) -> str:
        """Write a .tsv among the run's files; returns its path."""
        return _save_tsv(new_path, enumerate(self.data))

    @classmethod
    def cast(cls, obj: Any) -> Collection:
        """A path, a list of passages, or a Collection as a Collection.

        Raises:
            BadArgument: it is none of them.
        """
        return _cast(cls, obj, (list, tuple), "a collection should be a path, a list or a Collection")


class Queries:
    """Queries by qid: from a dict (of texts, or of dicts with "question"), a .tsv of `qid <tab> query` lines
    with whole numbers, or a .json of one {"qid", "question"} a line."""

    def __init__(self, path: str | None = None, data: Mapping[Any, Any] | None = None) -> None:
        self.path = path
        if data is not None and not isinstance(data, Mapping):
            raise BadArgument(f"queries should be a dict of texts by qid, got {type(data).__name__}.")
        if data is None:
            data = self._load(path)
        self._qas = {qid: content for qid, content in data.items() if isinstance(content, dict)}
        self.data = {qid: c["question"] if isinstance(c, dict) else c for qid, c in data.items()}

    @staticmethod
    def _load(path: str | None) -> dict[Any, Any]:
        if path is None:
            raise BadArgument("Queries need a path or data.")
        found: dict[Any, Any] = {}
        for number, parts in _lines(path):
            try:
                if path.endswith(".json"):
                    content = json.loads("\t".join(parts))
                    qid = content["qid"]
                else:
                    qid, content = int(parts[0]), parts[1]
            except (ValueError, LookupError, TypeError) as error:
                raise BadArgument(f"{path}, line {number + 1}: is no query: {error}.") from error
            if qid in found:
                raise BadArgument(f"{path}, line {number + 1}: qid {qid!r} is repeated.")
            found[qid] = content
        return found

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return iter(self.data.items())

    def __getitem__(self, key: Any) -> str:
        return str(self.data[key])

    def keys(self) -> KeysView[Any]:
        """The qids."""
        return self.data.keys()

    def values(self) -> ValuesView[str]:
        """The texts."""
        return self.data.values()

    def items(self) -> ItemsView[Any, str]:
        """(qid, text)."""
        return self.data.items()

    def qas(self) -> dict[Any, dict[str, Any]]:
        """The dicts with "question", by qid."""
        return dict(self._qas)

    def provenance(self) -> str | None:
        """The file they come from."""
        return self.path

    def save(self, new_path: str) -> str:
        """Write a .tsv among the run's files; returns its path."""
        return _save_tsv(new_path, self.data.items())

    def save_qas(self, new_path: str) -> str:
        """Write the dicts with "question", one a line, as .json among the run's files; returns its path."""
        if not new_path.endswith(".json"):
            raise BadArgument(f"{new_path}: should end in .json.")
        with Run().open(new_path, "w") as file:
            file.writelines(json.dumps(qa | {"qid": qid}) + "\n" for qid, qa in self._qas.items())
            return str(file.name)

    @classmethod
    def cast(cls, obj: Any) -> Queries:
        """A path, a dict, or Queries as Queries.

        Raises:
            BadArgument: it is none of them.
        """
        return _cast(cls, obj, (Mapping,), "queries should be a path, a dict of texts by qid or Queries")


class Ranking:
    """Passages ranked for queries: {qid: [(pid, rank, score), ...]}, a list of (qid, pid, rank, score), or a
    .tsv of such lines."""

    def __init__(
        self,
        path: str | None = None,
        data: Mapping[Any, Any] | Sequence[Any] | None = None,
        metrics: Any = None,
        provenance: Any = None,
    ) -> None:
        self._provenance = provenance or path
        if data is None:
            if path is None:
                raise BadArgument("a Ranking needs a path or data.")
            data = [tuple(_number(part) for part in parts) for _, parts in _lines(path)]
        if isinstance(data, Mapping):
            self.data: dict[Any, Any] = dict(data)
            self.flat_ranking = [(qid, *rest) for qid, ranked in data.items() for rest in ranked]
        else:
            self.flat_ranking, self.data = list(data), {}
            for qid, *rest in data:
                self.data.setdefault(qid, []).append(rest)

    def provenance(self) -> Any:
        """What it was made of."""
        return self._provenance

    def todict(self) -> dict[Any, Any]:
        """Ranked passages by qid."""
        return dict(self.data)

    def tolist(self) -> list[Any]:
        """(qid, pid, rank, score) of all queries, in their order."""
        return list(self.flat_ranking)

    def items(self) -> ItemsView[Any, Any]:
        """(qid, ranked passages)."""
        return self.data.items()

    def save(self, new_path: str) -> str:
        """Write a .tsv among the run's files, and beside it .meta with what it was made of; returns its path.

        Raises:
            BadArgument: "tsv" is no part of the name, or the file is there already.
        """
        path = _save_tsv(new_path, self.flat_ranking)
        made = {"metadata": {"current_datetime": datetime.now().astimezone().isoformat(timespec="seconds")}}
        with Run().open(f"{new_path}.meta", "w") as file:
            json.dump(made | {"provenance": self._provenance}, file, indent=4, default=str)
        return path

    @classmethod
    def cast(cls, obj: Any) -> Ranking:
        """A path, a dict, a list, or a Ranking as a Ranking.

        Raises:
            BadArgument: it is none of them.
        """
        return _cast(cls, obj, (Mapping, list), "a ranking should be a path, a dict, a list or a Ranking")


def _cast(kind: Callable[..., T], obj: Any, data: tuple[type, ...], wanted: str) -> T:
    """`obj` itself, or what `kind` makes of a path or of data."""
    if isinstance(kind, type) and isinstance(obj, kind):
        return cast(T, obj)
    if isinstance(obj, str | Path):
        return kind(path=str(obj))
    if isinstance(obj, data):
        return kind(data=obj)
    raise BadArgument(f"{wanted}, got {type(obj).__name__}.")


def _lines(path: str) -> Iterator[tuple[int, list[str]]]:
    """(number from 0, parts between tabs) of each line."""
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            yield number, line.strip("\n\r ").split("\t")


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _save_tsv(new_path: str, rows: Any) -> str:
    if "tsv" not in Path(new_path).name.split("."):
        raise BadArgument(f"{new_path}: should end in .tsv.")
    with Run().open(new_path, "w") as file:
        for row in rows:
            parts = (str(int(part) if isinstance(part, bool) else part) for part in row)
            file.write("\t".join(parts) + "\n")
        return str(file.name)
