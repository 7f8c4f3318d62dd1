"""A million passages of real text, with questions whose answers are known.

    python benchmarks/passages.py FOLDER

The text is that of Debian packages: descriptions of all packages, dictionaries and manuals (DOCUMENTATION),
fetched with `apt-get download`, so it needs Debian 12 or a container of it. Nothing is judged by people: a
question's answer is the passage that it comes from.

    sentence   a sentence that was taken out of its passage, which keeps the others
    synopsis   a package's one line, of the passage that its description begins with
    headword   a word that WordNet knows in one sense, of its definition

Passages are paragraphs, short ones of a page together, long ones cut between sentences; equal ones, also
those that differ in numbers only, are kept once. The same packages give the same passages in the same order.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

DOCUMENTATION: Final = (
    "wordnet-base", "dict-gcide", "dict-foldoc", "dict-jargon", "bible-kjv-text", "linux-doc-6.1",
    "openjdk-17-doc",
    "postgresql-doc-15", "python3.11-doc", "manpages", "manpages-dev", "perl-doc", "rust-doc", "erlang-doc",
    "sagemath-doc", "ghc-doc", "libboost1.81-doc", "libstdc++-12-doc", "qtbase5-doc-html", "python-scipy-doc",
    "python-django-doc", "octave-doc", "nodejs-doc", "sqlite3-doc", "gnucash-docs", "gimp-help-en",
    "libreoffice-help-en-us", "debian-handbook", "debian-reference-en", "debian-policy",
    "rust-web-doc", "scala-doc", "libsbml5-doc", "casacore-doc", "singular-doc", "python-pandas-doc",
    "gnuradio-doc", "libghc-gi-gtk-doc", "libgecode-doc", "libpcl-doc", "racket-doc", "lilypond-doc-html",
    "wx3.2-doc", "cppreference-doc-en-html", "openscenegraph-doc", "lazarus-doc-2.2", "libghc-agda-doc",
    "dcmtk-doc", "python-statsmodels-doc", "openms-doc", "libgtkmm-3.0-doc", "seqan3-doc",
    "libghc-ghc-lib-parser-doc", "libcoin-doc", "groovy-doc", "libjogl2-java-doc", "python-astropy-doc",
    "python-sklearn-doc", "libapache-poi-java-doc", "libbiojava-java-doc", "derby-doc", "twisted-doc",
    "libopenvdb-doc", "crystal-doc", "quantlib-refman-html", "pike8.0-doc", "libcrypto++-doc",
    "python-sympy-doc", "petsc3.18-doc", "libarm-compute-doc",
)  # fmt: skip
WORDS: Final = (30, 70)  # of a passage: paragraphs are joined up to the first, and cut at the second
LEAST_WORDS: Final = 6  # of a definition
EACH: Final = 1000  # questions of each kind
# English manuals only: their translations are other packages, or folders named so.
_FOREIGN: Final = re.compile(
    r"/(html|HTML|debian-handbook|gnucash|gimp|help)/.*?/?"
    r"(?!en\b|C\b)([a-z]{2}(_[A-Z]{2})?|[a-z]{2}-[A-Z]{2})/"
)
_HIDDEN: Final = re.compile(r"(?is)<(script|style|head|nav|svg|pre|footer|header)\b.*?</\1>|<!--.*?-->")
_BLOCK: Final = re.compile(
    r"(?i)</?(p|div|li|dd|dt|td|th|tr|h[1-6]|br|section|ul|ol|dl|table|blockquote)\b[^>]*>"
)
_TAG: Final = re.compile(r"<[^>]*>")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")


class Question(NamedTuple):
    """kind: see the module; passage: number of the one that answers."""

    kind: str
    text: str
    passage: int


class Draft(NamedTuple):
    """A passage before there are questions; title: its synopsis or headword, "" for none."""

    text: str
    kind: str = "sentence"
    title: str = ""


def fetch(folder: Path) -> None:
    """Download and unpack what is not there yet."""
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTATION:
        if not list(debs.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", "-qq", name], cwd=debs, check=True)
        if not (place := folder / "x" / name).exists():
            [deb] = debs.glob(f"{name}_*.deb")
            subprocess.run(["dpkg-deb", "-x", deb, place], check=True)
    if not (folder / "descriptions").exists():
        subprocess.run(["apt-get", "-qq", "-o", "Acquire::Languages=en", "update"], check=True)
        [listed] = Path("/var/lib/apt/lists").glob("*bookworm_main_i18n_Translation-en*")
        found = subprocess.run(
            ["/usr/lib/apt/apt-helper", "cat-file", listed], check=True, capture_output=True
        )
        (folder / "descriptions").write_bytes(found.stdout)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _packages(path: Path) -> Iterator[Draft]:
    for stanza in path.read_text("utf-8").split("\n\n"):
        _, found, description = stanza.partition("Description-en: ")
        if found:
            synopsis, _, rest = description.partition("\n")
            paragraphs = [_squeezed(part) for part in rest.split("\n .\n")]
            for i, text in enumerate(_passages(paragraphs)):
                yield Draft(text, "synopsis", synopsis) if i == 0 else Draft(text)


def _wordnet(folder: Path) -> Iterator[Draft]:
    """Definitions, each with the words that have it."""
    senses: dict[str, int] = {}
    found = []
    for path in sorted(folder.rglob("data.*")):
        for line in path.read_text("utf-8").splitlines():
            head, bar, gloss = line.partition(" | ")
            if bar and not line.startswith(" "):
                parts = head.split()
                words = [word.replace("_", " ") for word in parts[4 : 4 + 2 * int(parts[3], 16) : 2]]
                for word in words:
                    senses[word.lower()] = senses.get(word.lower(), 0) + 1
                found.append((words, _squeezed(gloss)))
    for words, gloss in found:
        if len(gloss.split()) >= LEAST_WORDS:
            single = [w for w in words if senses[w.lower()] == 1 and w.lower() not in gloss.lower()]
            yield Draft(gloss, "headword", single[0] if single else "")


def _dictionary(folder: Path) -> Iterator[Draft]:
    for path in sorted(folder.rglob("*.dict.dz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        for entry in re.split(r"\n\n(?=\S)", text):
            yield from map(Draft, _passages([_squeezed(re.sub(r"\[[^\]]*\]", " ", entry))]))


def _pages(folder: Path) -> Iterator[Draft]:
    """What stands in HTML, text and manual pages, file by file."""
    for path in sorted(folder.rglob("*")):
        name = path.name.removesuffix(".gz")
        if path.is_symlink() or not path.is_file() or _FOREIGN.search(f"/{path.relative_to(folder)}"):
            continue
        kind = name.rpartition(".")[2]
        if kind not in ("html", "htm", "txt", "rst", "kjv", "1", "2", "3", "4", "5", "7", "8"):
            continue
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
        if kind in ("html", "htm"):
            text = html.unescape(_TAG.sub("", _BLOCK.sub("\n\n", _HIDDEN.sub(" ", text))))
        elif kind.isdigit():
            text = re.sub(r"(?m)^['.](SH|SS|PP|TP|IP|P|LP)\b.*$", "\n", re.sub(r"\\f.|\\&|\\-", "", text))
            text = re.sub(r"(?m)^['.]\\\".*$|^[.](?:B|I|BR|IR|BI|RB|RI) ?|^[.].*$", "", text)
        yield from map(Draft, _passages([_squeezed(part) for part in re.split(r"\n\s*\n", text)]))


def _passages(paragraphs: list[str]) -> Iterator[str]:
    """Paragraphs joined and cut to WORDS; what has hardly any prose is left out."""
    waiting: list[str] = []
    for paragraph in paragraphs:
        words = paragraph.split()
        if len(words) < 4 or sum(word.strip(".,;:()").isalpha() for word in words) < 0.6 * len(words):
            continue
        for sentence in _SENTENCE.split(paragraph):
            size = sum(len(part.split()) for part in waiting)
            if size >= WORDS[0] and size + len(sentence.split()) > WORDS[1]:
                yield " ".join(waiting)
                waiting = []
            waiting += [sentence] if len(sentence.split()) <= 2 * WORDS[1] else []
        if sum(len(part.split()) for part in waiting) >= WORDS[0]:
            yield " ".join(waiting)
            waiting = []


def drafts(folder: Path) -> Iterator[Draft]:
    """All that the packages give, equal ones too."""
    yield from _packages(folder / "descriptions")
    for name in DOCUMENTATION:
        place = folder / "x" / name
        if name == "wordnet-base":
            yield from _wordnet(place)
        elif name.startswith("dict-"):
            yield from _dictionary(place)
        else:
            yield from _pages(place)


def make(folder: Path, count: int) -> tuple[list[str], list[Question]]:
    """The passages, shuffled, and the questions."""
    seen: set[int] = set()
    kept: list[Draft] = []
    for draft in drafts(folder):
        key = hash(re.sub(r"[\W\d_]+", " ", draft.text.lower()))
        if key not in seen:
            seen.add(key)
            kept.append(draft)
    rng = random.Random(11)
    rng.shuffle(kept)
    kept = kept[:count]
    texts = [draft.text for draft in kept]
    questions: list[Question] = []
    titles = [draft.title for draft in kept]
    counted: dict[str, int] = {}
    for title in titles:
        counted[title] = counted.get(title, 0) + 1
    for kind in ("synopsis", "headword"):
        places = [i for i, d in enumerate(kept) if d.kind == kind and d.title and counted[d.title] == 1]
        questions += [
            Question(kind, titles[i], i) for i in sorted(rng.sample(places, min(EACH, len(places))))
        ]
    taken = {question.passage for question in questions}
    whole = [i for i in range(len(kept)) if i not in taken]
    rng.shuffle(whole)
    for i in whole:
        sentences = _SENTENCE.split(texts[i])
        middle = [s for s in sentences[1:] if 8 <= len(s.split()) <= 25]
        if len(sentences) >= 3 and middle:
            chosen = rng.choice(middle)
            texts[i] = " ".join(s for s in sentences if s != chosen)
            questions.append(Question("sentence", chosen, i))
            if sum(question.kind == "sentence" for question in questions) == EACH:
                break
    return texts, questions


def main() -> None:
    """Write passages.txt (one a line) and questions.jsonl."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="for what is downloaded (0.6 GB), unpacked (4 GB) and written"
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    given = parser.parse_args()
    fetch(given.folder)
    texts, questions = make(given.folder, given.count)
    (given.folder / "passages.txt").write_text("\n".join(texts) + "\n", "utf-8")
    lines = [json.dumps(question._asdict()) for question in questions]
    (given.folder / "questions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    words = sum(len(text.split()) for text in texts)
    print(f"{len(texts)} passages, {words / max(len(texts), 1):.1f} words each; {len(questions)} questions")


if __name__ == "__main__":
    main()
