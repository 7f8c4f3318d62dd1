"""How well does the built-in model for many languages retrieve, by language, width and bits, beside BM25?

As quality.py, with `multilingual`: every document is scored, for every query. None of these collections had a
part in fitting its head; the length of the windows that documents are read in was chosen by looking at them,
among others. "zh in passages" is drcd in passages of 160 tokens, a document counting by its best. Needs the
collections at LATEBOLT_DATA (BEIR layout) and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

from quality import run


def main() -> None:
    """BM25 beside every combination of width and bits, then the tables."""
    run(
        "multilingual",
        __doc__,
        "multilingual",
        "en=squad,ja=jsquad,zh=drcd,zh in passages=drcd:160",
        "ja=jsquad",
        2000,
        {"en", "ja", "zh"},
    )


if __name__ == "__main__":
    main()
