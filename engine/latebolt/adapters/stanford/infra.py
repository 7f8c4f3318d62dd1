"""Settings of the Stanford library, which remember what was given, and the run they belong to.

Source of the surface: colbert/infra/run.py and colbert/infra/config of colbert-ai 0.2.22.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self

from latebolt.adapters.settings import refuse_unknown
from latebolt.encoder import model_folder
from latebolt.errors import IndexExists, IndexNotFound, InvalidInput

INDEX_METADATA = "metadata.json"  # beside the manifest of an index: the settings it was made with


class BadArgument(InvalidInput, AssertionError):
    """What the Stanford library refuses by an assertion."""


class IndexThere(IndexExists, AssertionError):
    """There is an index already, which the Stanford library refuses by an assertion."""


def _setting(default: Any = None) -> Any:
    """A field that is None until it is given; `default`, or what it returns, is then filled in."""
    return field(default=None, metadata={"default": default})


def _new_root() -> str:
    return str(Path.cwd() / "experiments")


def _new_name() -> str:
    return datetime.now().strftime("%Y-%m/%d/%H.%M.%S")


@dataclass
class Settings:
    """Base of the settings. `assigned` names those that were given: only these override others."""

    def __post_init__(self) -> None:
        self.assigned: dict[str, bool] = {}
        for each in fields(self):
            if getattr(self, each.name) is not None:
                self.assigned[each.name] = True
                continue
            default: Any = each.metadata["default"]
            setattr(self, each.name, default() if isinstance(default, Callable) else default)  # type: ignore[arg-type]

    @classmethod
    def from_existing(cls, *sources: Settings | None) -> Self:
        """New settings with what was given in any of the sources; later ones override earlier ones."""
        names = {each.name for each in fields(cls)}
        given: dict[str, Any] = {}
        for source in sources:
            if source is not None:
                given |= {name: getattr(source, name) for name in source.assigned if name in names}
        return cls(**given)

    @classmethod
    def from_path(cls, name: str | Path) -> tuple[Self, set[str]]:
        """(settings, names it does not know) of a JSON file, which holds them or has them under "config"."""
        content = json.loads(Path(name).read_text(encoding="utf-8"))
        made = cls()
        return made, made.configure(**content.get("config", content))

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path) -> Self:
        """Settings that a model brings.

        Args:
            checkpoint_path: "starter", a folder, or a hub id; see `Encoder.load`.
        Raises:
            ModelError: there is no such model.
        """
        found = model_folder.find(checkpoint_path)
        contract, made = found.contract, cls()
        expansion = contract.query.expansion
        made.configure(
            checkpoint=found.name,
            dim=contract.head(None).dim,
            query_maxlen=contract.query.max_tokens,
            doc_maxlen=contract.document.max_tokens,
            attend_to_mask_tokens=expansion is not None and expansion.attend,
            mask_punctuation=bool(contract.document.skiplist),
        )
        return made

    @classmethod
    def load_from_index(cls, index_path: str | Path) -> Self:
        """Settings that an index was made with.

        Raises:
            IndexNotFound: there is none, or making it never came to an end.
        """
        path = Path(index_path) / INDEX_METADATA
        try:
            return cls.from_path(path)[0]
        except FileNotFoundError as error:
            raise IndexNotFound(
                f"{index_path}: there is no finished index here (no {INDEX_METADATA}). Make one with "
                'Indexer; overwrite="resume" goes on with one that was cut short.'
            ) from error
        except (ValueError, AttributeError) as error:
            raise InvalidInput(f"{path}: should hold the settings of an index as JSON: {error}.") from error

    def configure(self, ignore_unrecognized: bool = True, **settings: Any) -> set[str]:
        """Give some settings; the names of those that do not exist come back."""
        return {name for name, value in settings.items() if not self.set(name, value, ignore_unrecognized)}

    def configure_strictly(self, **settings: Any) -> None:
        """Give some settings.

        Raises:
            InvalidInput: one does not exist; names the nearest that does.
        """
        refuse_unknown(settings, (each.name for each in fields(self)), type(self).__name__)
        self.configure(**settings)

    def set(self, key: str, value: Any, ignore_unrecognized: bool = False) -> bool:
        """Give one setting; whether it exists.

        Raises:
            InvalidInput: it does not, and `ignore_unrecognized` is False.
        """
        if key in {each.name for each in fields(self)}:
            setattr(self, key, value)
            self.assigned[key] = True
            return True
        if not ignore_unrecognized:
            raise InvalidInput(f"{type(self).__name__} has no setting {key!r}.")
        return False

    def export(self) -> dict[str, Any]:
        """All settings as JSON values; a collection that is no path is left out."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value if _is_json(value) else None for name, value in plain.items()}

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write all settings as JSON.

        Raises:
            BadArgument: something is there already.
        """
        if not overwrite and Path(path).exists():
            raise BadArgument(f"{path}: is there already. Choose another path, or overwrite=True.")
        Path(path).write_text(json.dumps(self.export(), indent=4) + "\n", encoding="utf-8")


def _is_json(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


@dataclass
class RunConfig(Settings):
    """Settings of a run: where its files are (root/experiment), and what latebolt does not need."""

    overwrite: bool = _setting(False)
    root: str = _setting(_new_root)
    experiment: str = _setting("default")
    index_root: str | None = _setting()
    name: str = _setting(_new_name)
    rank: int = _setting(0)
    nranks: int = _setting(1)
    amp: bool = _setting(True)
    gpus: int | str | list[int] = _setting(0)  # noqa: RUF009
    avoid_fork_if_possible: bool = _setting(False)

    @property
    def index_root_(self) -> str:
        """Folder of the run's indexes."""
        return self.index_root or os.path.join(self.root, self.experiment, "indexes/")  # noqa: PTH118 - theirs

    @property
    def script_name_(self) -> str:
        """The script that runs, as a part of a path; "none" where there is none."""
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        if file is None:
            return "none"
        script = Path(file).absolute()
        for base in (Path.cwd(), *Path(self.root).absolute().parents):
            if script.is_relative_to(base):
                return ".".join(script.relative_to(base).with_suffix("").parts)
        return script.stem

    @property
    def path_(self) -> str:
        """Folder of what the run writes beside indexes."""
        return str(Path(self.root, self.experiment, self.script_name_, self.name))


@dataclass
class ColBERTConfig(RunConfig):
    """All settings of the library; the package's docstring says which of them have no effect."""

    checkpoint: str | None = _setting()
    triples: str | None = _setting()
    collection: Any = _setting()  # noqa: RUF009
    queries: Any = _setting()  # noqa: RUF009
    index_name: str | None = _setting()
    # Documents and queries
    dim: int = _setting(128)
    doc_maxlen: int = _setting(220)
    mask_punctuation: bool = _setting(True)
    query_maxlen: int = _setting(32)
    attend_to_mask_tokens: bool = _setting(False)
    interaction: str = _setting("colbert")
    query_token_id: str = _setting("[unused0]")
    doc_token_id: str = _setting("[unused1]")
    query_token: str = _setting("[Q]")
    doc_token: str = _setting("[D]")
    # Training
    similarity: str = _setting("cosine")
    bsize: int = _setting(32)
    accumsteps: int = _setting(1)
    lr: float = _setting(3e-06)
    maxsteps: int = _setting(500_000)
    save_every: int | None = _setting()
    resume: bool = _setting(False)
    warmup: int | None = _setting()
    warmup_bert: int | None = _setting()
    relu: bool = _setting(False)
    nway: int = _setting(2)
    use_ib_negatives: bool = _setting(False)
    reranker: bool = _setting(False)
    distillation_alpha: float = _setting(1.0)
    ignore_scores: bool = _setting(False)
    model_name: str | None = _setting()
    # Indexes and searches
    index_path: str | None = _setting()
    index_bsize: int = _setting(64)
    nbits: int = _setting(1)
    kmeans_niters: int = _setting(4)
    pool_factor: int = _setting(1)
    clustering_mode: str = _setting("hierarchical")
    protected_tokens: int = _setting(0)
    ncells: int | None = _setting()
    centroid_score_threshold: float | None = _setting()
    ndocs: int | None = _setting()
    load_index_with_mmap: bool = _setting(False)

    @property
    def index_path_(self) -> str:
        """Folder of the index."""
        if self.index_path:
            return self.index_path
        return index_folder(self.index_root_, self.index_name)


def index_folder(root: str, name: str | None) -> str:
    """Folder of the index of that name.

    Raises:
        BadArgument: no name, or one that would lead out of the root.
    """
    if not isinstance(name, str) or not name.strip() or ".." in Path(name).parts or Path(name).is_absolute():
        raise BadArgument(f"the name of an index should be a relative path without '..', got {name!r}.")
    return os.path.join(root, name)  # noqa: PTH118 - the root ends in a slash, as users of the library see it


class Run:
    """The current run. There is one in a process; `context` puts another in its place for a while."""

    _instance: Run | None = None
    _stack: list[RunConfig]

    def __new__(cls) -> Run:
        if cls._instance is None:
            base = RunConfig()
            base.configure(**{each.name: getattr(base, each.name) for each in fields(base)})
            cls._instance = super().__new__(cls)
            cls._instance._stack = [base]
        return cls._instance

    @property
    def config(self) -> RunConfig:
        """Settings of the current run."""
        return self._stack[-1]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self.config, name):
            raise AttributeError(f"Run has no attribute {name!r}")
        return getattr(self.config, name)

    @contextlib.contextmanager
    def context(self, runconfig: RunConfig, inherit_config: bool = True) -> Iterator[None]:
        """Inside the block, these settings are the run's; what they do not give stays as it is."""
        entered = RunConfig.from_existing(self.config, runconfig) if inherit_config else runconfig
        self._stack.append(entered)
        try:
            yield
        finally:
            self._stack.pop()

    def open(self, path: str, mode: str = "r") -> IO[Any]:
        """Open a file of the run, below `path_`.

        Raises:
            BadArgument: it would be written, is there already, and `overwrite` of the run is False.
        """
        place = Path(self.path_, path)
        if "w" in mode or "a" in mode:
            if not self.overwrite and place.exists():
                raise BadArgument(
                    f"{place}: is there already. Use RunConfig(overwrite=True) or another name."
                )
            place.parent.mkdir(parents=True, exist_ok=True)
        return place.open(mode, encoding=None if "b" in mode else "utf-8")
