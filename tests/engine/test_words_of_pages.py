"""Words of the trade are explained where a page first uses them, or by a link to docs/words.md."""

from __future__ import annotations

import re

import pytest

from readme_snippets import PAGES, PROJECT, README

WORDS = PROJECT / "docs" / "words.md"
# A word -> its heading in docs/words.md.
TERMS = {
    r"late[- ]interaction": "late-interaction",
    r"token vectors?": "token-vectors",
    r"MaxSim": "maxsim",
    r"centroids?": "centroid",
    r"residuals?": "residual",
    r"BM25": "bm25",
    r"nDCG": "ndcg",
    r"late chunking": "late-chunking",
}
# Lists that are made by programs or look back, for people who know the words.
LISTS = {"beside-libraries.md", "moved.md", "mutations.md", "promises.md", "words.md"}
READ = [page for page in PAGES if page.name not in LISTS]
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")


def prose(text: str) -> str:
    """A page without code and headings."""
    text = CODE.sub("", FENCE.sub("", text))
    return re.sub(r"^#+ .*$", "", text, flags=re.M)


def unexplained(text: str, page: str) -> list[str]:
    """The words whose first use is neither emphasised, which marks an explanation, nor a link to one."""
    found = []
    place = "docs/words.md" if page == "README.md" else "words.md"
    for term, heading in TERMS.items():
        first = re.search(rf"(?<!\w)({term})(?!\w)", text, re.I)
        if first is None:
            continue
        before, after = text[max(0, first.start() - 40) : first.start()], text[first.end() : first.end() + 80]
        is_emphasised = bool(re.search(r"\*[^*\n]*$", before)) and "*" in after[:20]
        is_link = bool(re.search(r"\[[^\]\n]*$", before)) and re.match(
            rf"[^\]\n]*\]\({re.escape(place)}#{heading}\)", after
        )
        if not is_emphasised and not is_link:
            found.append(f"{first.group()}: ...{before[-30:]}{first.group()}{after[:30]}...")
    return found


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_words_are_explained_at_first_use(page):
    assert unexplained(prose(page.read_text(encoding="utf-8")), page.name) == []


def test_a_word_without_an_explanation_is_seen():
    assert unexplained("by MaxSim and [MaxSim](words.md#maxsim)", "a.md")
    assert unexplained("by [MaxSim](words.md#bm25)", "a.md")
    assert unexplained("by [MaxSim](words.md#maxsim)", "README.md")
    assert not unexplained("by [MaxSim](words.md#maxsim), and MaxSim", "a.md")
    assert not unexplained("*MaxSim* is the sum of the best matches", "a.md")
    assert not unexplained(prose("# MaxSim\n\n```\nMaxSim\n```\n`MaxSim`"), "a.md")


def test_every_heading_that_is_linked_to_is_there():
    headings = {
        re.sub(r"[^\w -]", "", line.removeprefix("### ")).lower().replace(" ", "-")
        for line in WORDS.read_text(encoding="utf-8").splitlines()
        if line.startswith("### ")
    }
    assert set(TERMS.values()) <= headings
    for page in PAGES:
        linked = set(re.findall(r"words\.md#([\w-]+)", page.read_text(encoding="utf-8")))
        assert linked <= headings, page


def test_the_first_screen_of_the_readme():
    """What nobody else offers in the first sentence, and the picture above everything else."""
    lines = README.read_text(encoding="utf-8").splitlines()
    text = " ".join(lines[2:12])
    sentence = text.split(". ")[0]
    for word in ("Search", "the reason for every hit", "no GPU", "no download"):
        assert word in sentence, sentence
    [picture] = [n for n, line in enumerate(lines) if line.startswith("![")]
    assert picture < 10 and not any(line.startswith(("```", "##")) for line in lines[:picture])


def test_one_paragraph_says_when_to_use_what():
    paragraphs = README.read_text(encoding="utf-8").split("\n\n")
    words = ("**late interaction**", "**BM25**", "**one vector a text**")
    assert [each for each in paragraphs if all(word in " ".join(each.split()) for word in words)]
