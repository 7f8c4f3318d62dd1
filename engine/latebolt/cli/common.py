"""What several commands share: options of one meaning, hits as lines with matched words shaded, figures."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latebolt import system
from latebolt.cli.terminal import is_dumb, plain, styled
from latebolt.index.places import is_uri

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.hits import Hit, WordMatch
    from latebolt.sharding import ShardedIndex

F = TypeVar("F", bound=Callable[..., Any])

# A match weaker than this is chance: unrelated words of one language are about this similar.
_SHOWN_SIMILARITY = 0.55


def threads_option(function: F) -> F:
    """--threads; more than there can be CPUs is a slip, and would take the machine down."""
    return click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: all]")(
        function
    )


def model_options(function: F) -> F:
    """--model, --precision, --dim, --device, --threads."""
    for option in (
        threads_option,
        click.option(
            "--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, cuda:0,cuda:1 or auto."
        ),
        click.option("--dim", type=int, help="Width of the token vectors: 128, 96, 64.  [default: widest]"),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "fp16", "int8"]),
            help="Of the encoder.  [default: int8 on CPU, fp16 on CUDA]",
        ),
        click.option(
            "--model",
            default="starter",
            show_default=True,
            help="starter (English), multilingual, a folder, or a hub id.",
        ),
    ):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def numbers(value: str, what: str) -> tuple[int, ...]:
    """Whole numbers with commas between.

    Raises:
        InvalidInput: one is none; `what` names the option.
    """
    from latebolt.errors import InvalidInput

    try:
        return tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise InvalidInput(f'{what} should be numbers such as 128,64, got "{value}".') from error


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first line as their heads."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def is_terminal() -> bool:
    """Whether a person watches stderr, at a terminal where a progress bar can be drawn over itself."""
    return sys.stderr.isatty() and not is_dumb()


def hit_lines(rank: int, hit: Hit[Any], matches: Sequence[WordMatch] = (), width: int = 200) -> str:
    """A hit for people: rank, score, id, confidence, where it stands, and the beginning of its text with
    matched words in bold."""
    head = f"{rank:>3}. {styled(f'{hit.score:.3f}', fg='green')}  {styled(str(hit.id), bold=True)}"
    head += f"  {confidence_words(hit)}" if hit.confidence is not None else ""
    head += f"  {plain(place_words(hit.place))}" if hit.place else ""
    if not hit.text:
        return head
    return f"{head}\n     {shade(snippet(hit.text, matches, width), matches)}"


def confidence_words(hit: Hit[Any]) -> str:
    """How likely a hit answers, "confidence 0.87", and whether that is little; "" where nothing tells."""
    if hit.confidence is None:
        return ""
    return f"confidence {hit.confidence:.2f}{', weak match' if hit.weak else ''}"


def place_words(place: Mapping[str, Any]) -> str:
    """Where a hit stands in its file, in words: "lines 3-9, A > B"."""
    words = []
    for name, value in place.items():
        if isinstance(value, list) and len(value) == 2:  # the first and the last
            first, last = value
            one = name.removesuffix("s")
            words.append(f"{one} {first}" if first == last else f"{one}s {first}-{last}")
        elif name in ("heading", "definition"):
            words.append(str(value))
        else:
            words.append(f"{name} {value}")
    return ", ".join(words)


def snippet(text: str, matches: Sequence[WordMatch] = (), width: int = 200) -> str:
    """The part of a text around its best matched word, on one line."""
    flat = " ".join(text.split())
    if len(flat) <= width:
        return flat
    best = max(matches, key=lambda match: match.similarity, default=None)
    at = max(0, flat.find(best.document_word) - width // 2) if best else 0
    start = flat.find(" ", at) + 1 if at else 0
    part = flat[start : start + width].rsplit(" ", 1)[0]
    return ("... " if start else "") + part + " ..."


def shade(text: str, matches: Sequence[WordMatch]) -> str:
    """Matched document words in bold yellow; what a terminal would obey is written out."""
    text = plain(text)
    words = {match.document_word for match in matches if _is_reason(match)}
    words = {word for word in words if re.search(r"\w", word)}
    if not words:
        return text
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
    return pattern.sub(lambda found: styled(found.group(), fg="yellow", bold=True), text)


def _is_reason(match: WordMatch) -> bool:
    return match.telling and match.similarity >= _SHOWN_SIMILARITY


def match_line(matches: Sequence[WordMatch]) -> str:
    """`query word -> document word (similarity)` for words that mean something, in query order."""
    shown = [m for m in matches if m.document_word and _is_reason(m)]
    shown = [m for m in shown if re.search(r"\w", m.query_word) and re.search(r"\w", m.document_word)]
    return ", ".join(f"{m.query_word} -> {m.document_word} ({m.similarity:.2f})" for m in shown)


def is_index(name: str) -> bool:
    """Whether there is an index, or a shard set, in the folder of that name."""
    return (Path(name) / "manifest.json").is_file() or is_set(name)


def is_set(name: str | Path) -> bool:
    """Whether there is a shard set in the folder of that name."""
    return (Path(name) / "shards.json").is_file()  # without the layout, which loads NumPy


def open_index(name: str | Path, *arguments: Any, **settings: Any) -> Index | ShardedIndex:
    """The index, or the shard set, in the folder of that name, or at a URI; see `Index.open`."""
    if is_uri(name):
        return opened_uri(str(name), *arguments, **settings)
    if is_set(name):
        from latebolt.sharding import ShardedIndex

        return ShardedIndex.open(name, *arguments, **settings)
    from latebolt import Index

    return Index.open(name, *arguments, **settings)


def opened_uri(uri: str, *arguments: Any, **settings: Any) -> Index:
    """The index at a URI; a bar tells how much of it is copied to this machine."""
    from latebolt import Index
    from latebolt.errors import ObjectStoreError
    from latebolt.objects.local_copy import LocalCopy
    from latebolt.objects.object_store import ObjectStore

    quiet_stores()
    with contextlib.suppress(ObjectStoreError):  # there may be a copy, and if not, opening it says so
        LocalCopy.of(uri, None).follow(ObjectStore(uri), show_progress=is_terminal())
    return Index.open(uri, *arguments, **{"refresh": None, **settings})


def quiet_stores() -> None:
    """Keep libraries of object stores from logging pages about an error that we tell in one line."""
    for name in ("gcsfs", "s3fs", "fsspec"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def n_documents(n: int) -> str:
    """1 document, 2 documents."""
    return "1 document" if n == 1 else f"{n} documents"


def human_bytes(n: float) -> str:
    """12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def resident_mb() -> float:
    """Largest resident memory of this process so far, in MB; nan where the system does not tell."""
    peak = system.peak_memory()
    return math.nan if peak is None else peak / 1e6
