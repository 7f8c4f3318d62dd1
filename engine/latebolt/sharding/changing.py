"""Brings additions, deletions and changes to the shards of a set, each of which commits its own part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from latebolt.encoder import legibility
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import Letters, Tally
from latebolt.index.documents.checked import CheckedDocument, with_ids
from latebolt.index.filters.parse_dict import Where
from latebolt.index.ingest.addition import refuse_repeated
from latebolt.index.ingest.sources import Batch
from latebolt.index.ingest.told import warn_of_truncation
from latebolt.progress import progress_bar
from latebolt.sharding.gather import Shards
from latebolt.sharding.placement import by_shard
from latebolt.sharding.protocol import AddAnswer, AddRequest, AddVectorsRequest, ChangeRequest
from latebolt.values import TokenVectors


def add(
    shards: Shards,
    batches: Iterator[Batch],
    timeout: float | None,
    encoder_of: Callable[[], Encoder],
    bar: progress_bar,
) -> list[str]:
    """Add documents batch by batch; gives their ids. See `ShardedIndex.add`."""
    names: list[str] = []
    positions: dict[str, int] = {}
    total = Tally()
    for batch in batches:
        documents, numbered = _named(shards, batch, positions, timeout)
        ids = [document.id for document in documents]
        asked = {
            number: (AddRequest(some, timeout),)
            for number, some in by_shard(documents, ids, len(shards)).items()
        }
        answers: dict[int, AddAnswer] = shards.change("add", asked, ids if numbered else None)
        for answer in answers.values():
            total.n_texts += answer.texts
            total.n_truncated += answer.truncated
            total.letters = total.letters.plus(Letters(*answer.letters))
        names += ids
        bar.step(len(ids))
    _tell(total, encoder_of)
    return names


def _named(
    shards: Shards, batch: Batch, positions: dict[str, int], timeout: float | None
) -> tuple[Sequence[CheckedDocument], bool]:
    """Documents with ids, and whether they were given numbers."""
    if not batch or batch.is_named:
        refuse_repeated(batch.documents, batch.first, positions)
        return batch.documents, False
    return with_ids(batch.documents, _free_ids(shards, len(batch), timeout)), True


def _free_ids(shards: Shards, n: int, timeout: float | None) -> list[str]:
    """Numbers that no document has or ever had by this way. Shard 0 gives them out, each once."""
    free: list[str] = []
    while (wanted := n - len(free)) > 0:
        first = shards.change("reserve_ids", {0: (wanted, timeout)})[0]
        drawn = [str(number) for number in range(first, first + wanted)]
        asked = {number: (some,) for number, some in by_shard(drawn, drawn, len(shards)).items()}
        present = shards.ask(shards.begin(), "present", asked, partial=False)
        taken = {id for some in present.values() for id in some}
        free += [id for id in drawn if id not in taken]
    return free


def _tell(tally: Tally, encoder_of: Callable[[], Encoder]) -> None:
    """Say what of the texts the model did not read."""
    if tally.n_texts:
        warn_of_truncation(encoder_of(), tally)
        legibility.warn(tally.letters, encoder_of().model)


def add_vectors(shards: Shards, batch: Batch, vectors: TokenVectors, timeout: float | None) -> list[str]:
    """Add documents with token vectors; gives their ids."""
    documents, numbered = _named(shards, batch, {}, timeout)
    ids = [document.id for document in documents]
    asked = {
        number: (AddVectorsRequest([documents[row] for row in rows], _some(vectors, rows), timeout),)
        for number, rows in by_shard(range(len(ids)), ids, len(shards)).items()
    }
    shards.change("add_vectors", asked, ids if numbered else None)
    return ids


def _some(vectors: TokenVectors, rows: Sequence[int]) -> TokenVectors:
    truncated = None if vectors.truncated is None else vectors.truncated[list(rows)]
    return TokenVectors.from_matrices([vectors[row] for row in rows], vectors.dim, truncated)


def delete(shards: Shards, ids: Sequence[str] | None, where: Where | None, timeout: float | None) -> int:
    """Delete documents; says how many there were."""
    return sum(shards.change("delete", _chosen(shards, ids, where, timeout, {})).values())


def update(
    shards: Shards,
    ids: Sequence[str] | None,
    where: Where | None,
    timeout: float | None,
    change: Mapping[str, Any],
) -> int:
    """Change documents' metadata; says of how many."""
    asked = _chosen(shards, ids, where, timeout, change)
    return sum(shards.change("update_metadata", asked).values())


def _chosen(
    shards: Shards,
    ids: Sequence[str] | None,
    where: Where | None,
    timeout: float | None,
    change: Mapping[str, Any],
) -> dict[int, tuple[ChangeRequest]]:
    """What each shard is asked to change."""
    if ids is None:
        return shards.everyone(ChangeRequest(None, where, timeout, change))
    return {
        number: (ChangeRequest(some, where, timeout, change),)
        for number, some in by_shard(ids, ids, len(shards)).items()
    }
