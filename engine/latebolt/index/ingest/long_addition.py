"""An addition in several commits, which holds the index for these only: others have their turns between them.

Each commit is of whole documents and says how far the addition has come, so that one of the same name, begun
after a kill, goes on behind the last commit: nothing is lost, and nothing is added twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from latebolt.arrays import Float32
from latebolt.checks import CheckedTexts
from latebolt.codec.base import Codec
from latebolt.codec.coding import KERNELS, Coding
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.encoder import legibility
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import Letters, gathered
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.documents.passages import kept_cutting
from latebolt.index.documents.pooled import kept_pooling
from latebolt.index.ingest.addition import Addition, refuse_repeated
from latebolt.index.ingest.sources import Batch, CodedTexts, EncodedTexts, rows_of
from latebolt.index.ingest.train import learn_ahead
from latebolt.index.store.store import Snapshot, Store
from latebolt.progress import progress_bar

# Of a commit: it ends with the document that reaches one of these. That is some seconds of encoding, whose
# vectors memory holds (50 MB at 128 dimensions), and some tenths of a second with the index in hand.
COMMIT_DOCUMENTS: Final = 512
COMMIT_CHARACTERS: Final = 400_000
# What a single document may have beyond that is encoded while the index is held, as it has no end in memory.
_AHEAD_CHARACTERS: Final = 4 * COMMIT_CHARACTERS
# Encoded between two looks at whether the addition is still wanted; with a shared encoder other texts have
# their turns between them too.
_AHEAD_ROWS: Final = 32
# The index's setting that holds the name and the progress of its last long addition.
_SETTING: Final = "addition"


class Progress(NamedTuple):
    """Documents that are committed, and how many texts of them were not read to their end."""

    documents: int = 0
    truncated: int = 0


class LongAddition:
    """Call `encode` and `commit` in turns, until `encode` has nothing left.

    Long additions of one index should come one after the other: the index remembers the last one's progress.

    Args:
        codec: gives that for new documents, as it is in the last commit.
        documents: checked, with ids.
        name: of this addition; `progress` is that of an earlier one of the same name and documents.
        coding: see `CodecTrainer`.
    Raises:
        InvalidInput: an id comes twice.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        codec: Callable[[], Codec | None],
        documents: Sequence[CheckedDocument],
        name: str,
        coding: Coding = KERNELS,
    ) -> None:
        refuse_repeated(documents, 0, {})
        self._store, self._codec, self._name, self._coding = store, codec, name, coding
        self.progress = self._before = progress_of(store.snapshot(), name)
        whole = Batch(0, documents)
        left = Batch(self.progress.documents, documents[self.progress.documents :])
        with gathered():  # `letters` and `progress` say it
            self.letters = (
                encoder.legibility(CheckedTexts(legibility.sampled(whole.texts))) if whole else Letters()
            )
            self._rows = rows_of(left, encoder, kept_cutting(store.manifest.settings))
        pooling = kept_pooling(store.manifest.settings)
        self._units = self._rows.units
        self._source = EncodedTexts(encoder, self._rows, progress_bar(None, "index", "text", False), pooling)
        self._row = self._end = self._documents = 0
        self._learnt: ResidualCodec | None = None

    def encode(self, wanted: Callable[[], None] = lambda: None) -> bool:
        """Encode the documents of the next commit. Nobody else waits for it.

        Args:
            wanted: called again and again; raises where the addition is not wanted any more.
        Returns:
            Whether there is anything to commit.
        """
        wanted()
        if self._row == len(self._rows):
            return False
        source = _InSteps(self._source, wanted)
        with gathered():
            if self._row == 0:  # the codec is learnt of all that is to come
                snapshot = self._store.snapshot()
                self._learnt = learn_ahead(self._codec(), snapshot, self._units, source, self._coding)
            self._end, self._documents = self._next_commit()
            characters = 0
            for start in range(self._row, self._end, _AHEAD_ROWS):
                rows = range(start, min(start + _AHEAD_ROWS, self._end))
                source.ahead(rows)
                characters += sum(self._length(row) for row in rows)
                if characters > _AHEAD_CHARACTERS:
                    break
        return True

    def commit(self, wanted: Callable[[], None] = lambda: None) -> None:
        """Write what was encoded, in one commit, and go on to the next.

        Args:
            wanted: also called with the index in hand, just before the commit is published.
        Raises:
            IndexLocked: another process is writing; may be called again.
            StorageFull: nothing has changed; begin another addition.
        """
        with gathered(), self._store.writer() as writer:
            wanted()
            addition = Addition(writer, self._codec(), self._learnt, self._coding)
            rows = range(self._row, self._end)
            addition.learn(
                [unit for unit in self._units if self._row == 0 or unit.start in rows], self._source
            )
            addition.write(self._rows, rows, self._source)
            addition.finish()
            truncated = self._before.truncated + self._source.n_truncated
            done = Progress(self.progress.documents + self._documents, truncated)
            writer.set_settings({**writer.manifest.settings, _SETTING: [self._name, *done]})
            writer.tidy()
            wanted()
            writer.commit()
        self.progress, self._row = done, self._end

    def _next_commit(self) -> tuple[int, int]:
        """Row behind the next commit, and its documents."""
        passages, n, characters = self._rows.passages, 0, 0
        for row in range(self._row, len(self._rows)):
            if passages is None or passages[row] == 0:
                if n >= COMMIT_DOCUMENTS or characters >= COMMIT_CHARACTERS:
                    return row, n
                n += 1
            characters += self._length(row)
        return len(self._rows), n

    def _length(self, row: int) -> int:
        return len(self._rows.documents[row].text or "")


class _InSteps:
    """A source whose texts are encoded ahead of time a few at a time.

    Args:
        wanted: called before each step.
    """

    on_gpu = False  # by the time they are written they have been encoded

    def __init__(self, source: EncodedTexts, wanted: Callable[[], None]) -> None:
        self._source, self._wanted = source, wanted

    def ahead(self, rows: Sequence[int]) -> None:
        """See `EncodedTexts`."""
        for start in range(0, len(rows), _AHEAD_ROWS):
            self._wanted()
            self._source.ahead(rows[start : start + _AHEAD_ROWS])

    def most_tokens(self, row: int) -> int:
        """See `VectorSource`."""
        return self._source.most_tokens(row)

    def sample(self, rows: Sequence[int]) -> list[Float32]:
        """See `VectorSource`."""
        self.ahead(rows)
        return self._source.sample(rows)

    def coded(self, rows: range, codec: Codec) -> CodedTexts:
        """See `VectorSource`."""
        return self._source.coded(rows, codec)


def progress_of(snapshot: Snapshot, name: str) -> Progress:
    """How far a long addition has come; nothing of it where another one came since."""
    kept: Any = snapshot.settings.get(_SETTING)
    return Progress(*kept[1:]) if kept and kept[0] == name else Progress()
