"""The tools: what each is called, takes, does and gives. Knows nothing of the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from latebolt.agents import wording
from latebolt.agents.collections import Collections, figures
from latebolt.agents.untrusted import Marks, bounded
from latebolt.agents.wording import MOST_ADDED, MOST_HITS, MOST_TEXT
from latebolt.errors import IndexUnusable, InvalidInput
from latebolt.serve.keys import Right

MOST_CHARACTERS: Final = 50_000  # of a text in an answer, whatever the server is told


class _Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    index: str | None = None


class Search(_Arguments):
    """Arguments of `search`."""

    query: Annotated[str, Meta(max_length=4_000)]
    k: Annotated[int, Meta(ge=1, le=MOST_HITS)] = 5
    where: Annotated[str, Meta(max_length=10_000)] | dict[str, Any] | None = None
    mode: Literal["late", "bm25", "hybrid"] = "late"


class GetDocument(_Arguments):
    """Arguments of `get_document`."""

    id: Annotated[str, Meta(max_length=1_024)]
    start: Annotated[int, Meta(ge=0)] = 0


class ListIndexes(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `list_indexes`."""


class NewDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A document to add."""

    id: Annotated[str, Meta(min_length=1, max_length=1_024)]
    text: Annotated[str, Meta(max_length=MOST_TEXT)]
    metadata: dict[str, Any] | None = None


class AddDocuments(_Arguments):
    """Arguments of `add_documents`."""

    documents: Annotated[list[NewDocument], Meta(min_length=1, max_length=MOST_ADDED)]
    replace: bool = False


@dataclass(frozen=True)
class Tool:
    """A tool.

    Args:
        arguments: what its arguments are checked by.
        run: arguments -> the answer as JSON values.
        needs: what a caller must be allowed.
    """

    name: str
    title: str
    arguments: type[Any]
    run: Callable[[Any], Awaitable[dict[str, Any]]]
    needs: Right = "read"


class Toolbox:
    """The tools for some indexes.

    Args:
        write: whether `add_documents` is among them.
        most_characters: of a text in an answer.
    """

    def __init__(self, collections: Collections, write: bool = False, most_characters: int = 2_000) -> None:
        self._collections = collections
        self._most = min(most_characters, MOST_CHARACTERS)
        tools = [
            Tool("search", "Search the documents", Search, self._search),
            Tool("get_document", "Read a document", GetDocument, self._get_document),
            Tool("list_indexes", "List the indexes", ListIndexes, self._list_indexes),
        ]
        if write:
            tools.append(Tool("add_documents", "Add documents", AddDocuments, self._add_documents, "write"))
        self.tools = {tool.name: tool for tool in tools}

    async def call(self, name: str, arguments: Mapping[str, Any], right: Right) -> dict[str, Any]:
        """The answer of a tool.

        Raises:
            InvalidInput: there is no such tool, the caller may not use it, or an argument does not fit.
            LateboltError: an index cannot be used.
        """
        tool = self.tools.get(name)
        if tool is None:
            raise InvalidInput(f"there is no tool of that name. There are: {', '.join(self.tools)}.")
        if tool.needs == "write" and right != "write":
            raise InvalidInput(f"{name}: the key of this connection may only read. Ask its owner to add.")
        try:
            given = msgspec.convert(dict(arguments), tool.arguments, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{name}: {error}. See the tool's input schema.") from error
        return await tool.run(given)

    # What the tools do

    async def _search(self, given: Search) -> dict[str, Any]:
        name = self._collections.name_of(given.index)
        index = (
            self._collections.get(name) if given.mode == "bm25" else await self._collections.with_model(name)
        )
        hits = await index.search(given.query, given.k, given.where, mode=given.mode)
        marks = Marks()
        shown = []
        for rank, hit in enumerate(hits, start=1):
            content, part = marks.document(hit.id, hit.text, hit.metadata, 0, self._most)
            if place := getattr(hit, "place", None):
                content["place"] = bounded(place)
            told: dict[str, Any] = {"rank": rank, "score": round(hit.score, 4)}
            if hit.confidence is not None:
                told |= {"confidence": round(hit.confidence, 2), "weak": hit.weak}
            shown.append({**told, "characters": part, "untrusted": content})
        answer: dict[str, Any] = {"index": name, "mode": given.mode, "notice": marks.notice, "hits": shown}
        if not hits:
            answer["hint"] = "No document qualifies. Ask in other words" + (
                ", or without `where`." if given.where else "."
            )
        return answer

    async def _get_document(self, given: GetDocument) -> dict[str, Any]:
        name = self._collections.name_of(given.index)
        [entry] = await self._collections.get(name).get([given.id])
        if entry is None:
            raise InvalidInput(f'id: no document of "{name}" has it. Ids stand in the hits of `search`.')
        marks = Marks()
        content, part = marks.document(entry.id, entry.text, entry.metadata, given.start, self._most)
        answer = {"index": name, "notice": marks.notice, "characters": part, "untrusted": content}
        if part["end"] < part["of"]:
            answer["hint"] = f"There is more: ask again with start={part['end']}."
        return answer

    async def _list_indexes(self, _: ListIndexes) -> dict[str, Any]:
        found = []
        for name in self._collections:
            try:
                info = await self._collections.get(name).info()
                found.append(figures(name, info, self._collections.fields(name)))
            except IndexUnusable:
                found.append({"index": name, "problem": "it cannot be opened now."})
        return {"indexes": found}

    async def _add_documents(self, given: AddDocuments) -> dict[str, Any]:
        name = self._collections.name_of(given.index)
        documents = given.documents
        ids = [document.id for document in documents]
        if len(set(ids)) < len(ids):
            raise InvalidInput("documents: two have the same id. Give each its own.")

        index = await self._collections.with_model(name)
        if not given.replace:
            there = [id for id, entry in zip(ids, await index.get(ids), strict=True) if entry is not None]
            if there:
                raise InvalidInput(
                    f"documents: {len(there)} of the ids are taken, such as {there[0][:100]!r}. Choose "
                    "others, or give replace=true to replace those documents."
                )
        texts, metadata = [each.text for each in documents], [each.metadata for each in documents]
        return {"index": name, "added": len(await index.add(texts, ids, metadata, timeout=20))}

    # What they say of themselves

    def instructions(self) -> str:
        """For the model, once a session."""
        return wording.instructions(self._collections.names)

    def description(self, name: str) -> str:
        """Of a tool."""
        fields = {name: self._collections.fields(name) for name in self._collections}
        return wording.description(name, fields, self._most)

    def schema(self, name: str) -> dict[str, Any]:
        """JSON schema of a tool's arguments."""
        return wording.schema(name, self._collections.names)
