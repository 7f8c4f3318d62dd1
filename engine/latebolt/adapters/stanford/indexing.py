"""`Indexer`: a collection of passages to an index folder below root/experiment/indexes.

Source of the surface: colbert/indexer.py of colbert-ai 0.2.22.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latebolt.adapters.stanford import folders
from latebolt.adapters.stanford.checkpoint import load_encoder
from latebolt.adapters.stanford.data import Collection
from latebolt.adapters.stanford.folders import Overwrite
from latebolt.adapters.stanford.infra import BadArgument, ColBERTConfig, Run, index_folder
from latebolt.encoder.encoder import Encoder


def shows_progress(verbose: int | bool) -> bool:
    """Whether to draw a bar: on a terminal, at the library's own default of 3."""
    return int(verbose) > 1 and sys.stderr.isatty()


class Indexer:
    """Makes indexes with one checkpoint.

    Args:
        checkpoint: "starter", an exported folder, a hub id, or an `Encoder`.
        config: `nbits`, `doc_maxlen`, `dim`, `pool_factor`. Where indexes go (`root`, `experiment`,
            `index_root`) is the run's: use `Run().context(...)`.
        verbose: above 1, a progress bar is shown on a terminal.
    Raises:
        ModelError: there is no such model.
        InvalidInput: the config contradicts what the model was trained with.
    """

    def __init__(
        self, checkpoint: str | Encoder, config: ColBERTConfig | None = None, verbose: int | bool = 3
    ) -> None:
        self.index_path: str | None = None
        self.verbose, self.encoder = verbose, load_encoder(checkpoint, config)
        self.checkpoint = self.encoder.model
        self.checkpoint_config = ColBERTConfig.load_from_checkpoint(self.checkpoint)
        self.config = ColBERTConfig.from_existing(self.checkpoint_config, config, Run().config)
        self.configure(checkpoint=self.checkpoint, dim=self.encoder.dim)

    def configure(self, **settings: Any) -> None:
        """Give some settings.

        Raises:
            InvalidInput: there is no setting of that name.
        """
        self.config.configure_strictly(**settings)

    def get_index(self) -> str | None:
        """Path of the index made last."""
        return self.index_path

    def erase(self, force_silent: bool = False) -> list[str]:
        """Delete the index made last, at once; the paths of what was deleted.

        Raises:
            BadArgument: none was made.
        """
        if self.index_path is None:
            raise BadArgument("there is no index to erase: index() has not been called.")
        return folders.erase(Path(self.index_path))

    def index(
        self, name: str, collection: str | Sequence[str] | Collection, overwrite: Overwrite = False
    ) -> str:
        """Index a collection; a passage's pid is its position.

        Passages are committed 131,072 at a time, so that "resume" has something to go on with.

        Args:
            name: of the index, a folder below the run's indexes.
            collection: a list of passages, the path of a .tsv, or a Collection.
            overwrite: False refuses an index that exists, True and "force_silent_overwrite" delete it first,
                "reuse" returns it as it is, "resume" adds the passages that it does not have yet.
        Returns:
            Path of the index.
        Raises:
            BadArgument: no such overwrite, no collection, or a name that leads elsewhere.
            IndexThere: there is an index and overwrite is False. Is an AssertionError.
            IndexExists: something that is no latebolt index would have to be deleted.
        """
        folders.check_overwrite(overwrite)
        passages = Collection.cast(collection)
        index_folder("", name)  # refuses what leads elsewhere, also where a path is given
        self.configure(collection=passages.path, index_name=name, resume=overwrite == "resume")
        path = self.config.index_path_
        with folders.begun(path, self.encoder, self.config, overwrite) as (index, finished):
            self.index_path = path
            if overwrite == "reuse" and finished:
                return path
            done = folders.read_next_pid(path) if finished else len(index)
            rest = passages.data[done:]
            folders.add_passages(index, rest, done, self.config, show_progress=shows_progress(self.verbose))
            folders.write_metadata(path, self.config, max(len(passages), done))
        return path
