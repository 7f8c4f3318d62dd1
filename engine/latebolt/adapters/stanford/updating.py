"""`IndexUpdater`: adds passages to an index and removes some, first for one searcher, then on disk.

Source of the surface: colbert/index_updater.py of colbert-ai 0.2.22.
"""

from __future__ import annotations

from collections.abc import Sequence

from latebolt.adapters.stanford import folders
from latebolt.adapters.stanford.checkpoint import check_list, load_encoder
from latebolt.adapters.stanford.infra import ColBERTConfig
from latebolt.adapters.stanford.searching import Searcher
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, ModelMismatch
from latebolt.values import TokenVectors


class IndexUpdater:
    """Changes what a searcher finds at once, and the index on disk with `persist_to_disk`.

    Args:
        config: settings that the passages are encoded with.
        searcher: finds what is added from then on, and no longer what is removed.
        checkpoint: the model the index was made with; without one, passages can only be removed.
    Raises:
        ModelMismatch: it is another model.
    """

    def __init__(
        self, config: ColBERTConfig | None, searcher: Searcher, checkpoint: str | Encoder | None = None
    ) -> None:
        self.searcher, self.index_path = searcher, searcher.index
        self.config = ColBERTConfig.from_existing(searcher.config, config)
        self._index, self._unsaved = searcher._index, searcher._unsaved
        self._encoder: Encoder | None = None
        if checkpoint is not None:
            self._encoder = load_encoder(checkpoint, config)
            if self._encoder.fingerprint != searcher.checkpoint.encoder.fingerprint:
                raise ModelMismatch(
                    f'{self.index_path}: was made with model "{searcher.checkpoint.name}", and '
                    f'"{self._encoder.model}" gives other vectors. Give the model it was made with.'
                )

    def add(self, passages: Sequence[str]) -> list[int]:
        """Encode passages and let the searcher find them; their pids, which come after all there ever were.

        Raises:
            InvalidInput: the updater was made without a checkpoint, or a passage is no str.
        """
        if self._encoder is None:
            raise InvalidInput("no checkpoint was given to IndexUpdater, so it cannot encode passages.")
        texts = check_list(passages, "passages")
        return self._unsaved.add(texts, self._encoder.encode_documents(texts, False, self.config.pool_factor))

    def remove(self, pids: Sequence[int]) -> None:
        """Let the searcher no longer find some passages.

        Raises:
            InvalidInput: ("Invalid PIDs", those) for pids that no passage has. Is a ValueError.
        """
        chosen = list(pids)
        stored = [str(pid) for pid in chosen if pid not in self._unsaved.texts]
        known = {int(entry.id) for entry in self._index.get(stored) if entry is not None}
        known = (known | set(self._unsaved.texts)) - self._unsaved.removed
        if invalid := [pid for pid in chosen if pid not in known]:
            raise InvalidInput("Invalid PIDs", invalid)
        self._unsaved.removed |= set(chosen)

    def persist_to_disk(self) -> None:
        """Write what was added and removed to the index, where other searchers find it.

        Raises:
            IndexLocked: another process is writing to it.
        """
        added = self._unsaved.taken()
        next_pid = max(self._unsaved.next_pid, folders.read_next_pid(self.index_path))
        # Before the passages: should this end between the two, a pid is skipped and none is given twice.
        folders.write_metadata(self.index_path, self.searcher.index_config, next_pid)
        if removed := [str(pid) for pid in sorted(self._unsaved.removed)]:
            self._index.delete(removed)
        if added:
            vectors = TokenVectors.from_matrices([matrix for _, matrix in added.values()])
            self._index.add_vectors(list(map(str, added)), vectors, [text for text, _ in added.values()])
        self._unsaved.clear()
