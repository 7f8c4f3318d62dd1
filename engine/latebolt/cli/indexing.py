"""What `latebolt index` and `latebolt watch` share: opening or making an index, and what is said of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from latebolt.cli.common import human_bytes, is_index, model_options
from latebolt.cli.suggestions import check_index_first
from latebolt.cli.terminal import plain

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.corpus.files import Skipped
    from latebolt.index.ingest.sync import SyncCounts

F = TypeVar("F", bound=Callable[..., Any])

PASSAGE_TOKENS: Final = 250  # of a passage where nothing else is said: what the starter was trained on
_MOST_NAMED: Final = 5  # of the documents that are no longer there, so many are named


def pooling_options(when: str, default: str = "1, every vector") -> Callable[[F], F]:
    """--pool-factor and --max-vectors."""

    def decorate(function: F) -> F:
        most = click.option(
            "--max-vectors",
            type=click.IntRange(min=1),
            help=f"{when}keep at most so many vectors of a document or passage, by clustering its tokens.",
        )
        factor = click.option(
            "--pool-factor",
            type=click.IntRange(min=1),
            help=f"{when}keep one vector of about so many, by clustering tokens.  [default: {default}]",
        )
        return factor(most(function))

    return decorate


def index_options(function: F) -> F:
    """--bits, those of cutting into passages and of pooling tokens, --no-ignore, and those of the model."""
    for option in (
        model_options,
        click.option(
            "--no-ignore", is_flag=True, help="Read also what .gitignore files of folders leave out."
        ),
        click.option(
            "--whole",
            is_flag=True,
            help="Cut nothing: of each document the model reads the beginning, as much as it takes.",
        ),
        click.option(
            "--late-chunking",
            is_flag=True,
            help="Of a new index: encode passages within the text around them, as much as the model reads.",
        ),
        click.option(
            "--passage-overlap",
            type=click.IntRange(min=0),
            help="Tokens a passage shares with the one before.  [default: a quarter, at most 64]",
        ),
        click.option(
            "--passage-tokens",
            type=click.IntRange(min=1),
            help="Of a new index: cut longer documents into passages of so many tokens.  [default: 250]",
        ),
        pooling_options("Of a new index: "),
        click.option(
            "--bits", type=click.Choice(["1", "2", "4", "8", "16"]), help="Bits a dimension.  [default: 2]"
        ),
    ):
        function = option(function)
    return function


@dataclasses.dataclass(frozen=True)
class Target:
    """The index that the options ask for.

    Args:
        model_given: whether the command line says which model, so that one that is there has to have it.
    """

    index: str
    bits: str | None
    passage_tokens: int | None
    passage_overlap: int | None
    late_chunking: bool
    pool_factor: int | None
    max_vectors: int | None
    whole: bool
    model: str
    precision: str | None
    dim: int | None
    device: str
    threads: int | None
    model_given: bool

    @classmethod
    def of(cls, context: click.Context) -> Target:
        """What a command with `index_options` and an argument INDEX was given.

        Raises:
            InvalidInput: options contradict each other.
        """
        from latebolt.errors import InvalidInput

        given = {
            name
            for name in context.params
            if context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
        }
        names = [field.name for field in dataclasses.fields(cls) if field.name != "model_given"]
        target = cls(
            **{name: context.params[name] for name in names},
            model_given=bool(given & {"model", "precision", "dim"}),
        )
        if target.whole and (
            target.passage_tokens or target.passage_overlap is not None or target.late_chunking
        ):
            raise InvalidInput(
                "give --whole or --passage-tokens, --passage-overlap and --late-chunking, not both."
            )
        return target

    @property
    def exists(self) -> bool:
        """Whether it is there already."""
        return is_index(self.index)

    def check_order(self, files: Sequence[str]) -> None:
        """Raise InvalidInput if index and files were given the other way round."""
        if Path(self.index).exists():
            check_index_first(self.index, *files)

    def open(self) -> tuple[Index, bool]:
        """The index that is there, and whether files are documents of some paragraphs each, as in older ones.

        Raises:
            InvalidInput: it was made with other options.
        """
        from latebolt import Encoder, Index
        from latebolt.errors import InvalidInput

        encoder = self._encoder(Encoder) if self.model_given else None
        opened = Index.open(self.index, encoder, self.device, self.threads)
        asked = {
            "bits": None if self.bits is None else int(self.bits),
            "passage_tokens": self.passage_tokens,
            "passage_overlap": self.passage_overlap,
            "late_chunking": self.late_chunking or None,
            "pool_factor": self.pool_factor,
            "max_vectors": self.max_vectors,
        }
        opened.check_settings(asked, _option)
        cuts = opened.info()["passage_tokens"]
        if self.whole and cuts is not None:
            raise InvalidInput(
                f"{opened.path}: cuts documents into passages of {cuts} tokens; --whole fits only a new "
                "index."
            )
        return opened, cuts is None and not self.whole

    def create(self) -> Index:
        """A new index, which its first commit will make."""
        from latebolt import Encoder, Index

        encoder = self._encoder(Encoder)
        size = (
            None if self.whole else self.passage_tokens or min(PASSAGE_TOKENS, encoder.document_room)
        )  # the model may take fewer
        return Index.create(
            self.index,
            encoder,
            int(self.bits or 2),
            None,
            size,
            self.passage_overlap,
            with_first_add=True,
            late_chunking=self.late_chunking,
            device=self.device,
            pool_factor=self.pool_factor or 1,
            max_vectors=self.max_vectors,
        )

    def _encoder(self, kind: Any) -> Any:
        return kind.load(self.model, self.precision, self.dim, self.device, self.threads)


def _option(name: str, value: object) -> str:
    """A setting as the command line has it."""
    flag = f"--{name.replace('_', '-')}"
    return flag if value is True else f"{flag} {value}"


def made_by(in_lines: bool) -> str:
    """What of a reading changes the documents it gives, beside the file: see `FileRecords`."""
    from latebolt import __version__

    return f"{__version__}, {'paragraphs' if in_lines else 'whole'}"


def run_record(
    index: Index, counts: SyncCounts, missing: Sequence[str], skipped: Sequence[Skipped], seconds: float
) -> dict[str, Any]:
    """A run as JSON values."""
    return {
        **index.info(),
        **dataclasses.asdict(counts),
        "missing": len(missing),
        "seconds": seconds,
        "skipped": [each.record() for each in skipped],
    }


def run_line(
    index: Index, counts: SyncCounts, missing: Sequence[str], seconds: float, dry_run: bool = False
) -> str:
    """A run in a line for people."""
    parts = [(counts.added, "added"), (counts.changed, "changed"), (counts.kept, "unchanged")]
    parts += [(counts.removed, "removed"), (len(missing), "no longer there")]
    said = ", ".join(f"{n} {what}" for n, what in parts if n) or "nothing to do"
    info = index.info()
    size = f"{info['documents']} documents, {info['tokens']} tokens, {human_bytes(info['bytes'])} on disk"
    return f"{index.path}: {'would be ' if dry_run else ''}{said} in {seconds:.1f} s; {size}"


def missing_line(ids: Sequence[str]) -> str:
    """The documents that are no longer there, and what can be done about it."""
    named = ", ".join(plain(id) for id in ids[:_MOST_NAMED])
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    verb, them = ("is", "it") if len(ids) == 1 else ("are", "them")
    return f"{named}{more} {verb} no longer there; a search still finds {them}. Forget {them} with --prune."
