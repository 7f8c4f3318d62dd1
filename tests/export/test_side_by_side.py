"""The report's other half: text rules in words, and the library that a checkpoint was made for beside us."""

from __future__ import annotations

import json
import sys

import msgspec
import numpy as np
import pytest
from small import vocabulary
from test_parity import pipeline

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ExportError, InvalidInput, RuntimeUnavailable
from latebolt.values import TokenVectors
from latebolt_export import export_model
from latebolt_export.judge import rules_in_words, side_by_side
from latebolt_export.judge.parity import GraphParity, HeadParity, Report
from latebolt_export.judge.report import markdown
from latebolt_export.judge.side_by_side import Library
from later import needs

QUICK = {"precisions": ("fp32",)}


def test_the_rules_are_said_in_words(make):
    folder = make("plain")
    said = pipeline(folder, 192, expansion=Expansion(6, False), skiplist=(59, 60), strip=True).contract
    query, document, casing = rules_in_words.rules(said, (folder / "tokenizer.json").read_text())
    assert query == (
        "Queries: `[CLS]` `[unused0]` text `[SEP]`, at most 32 tokens in all; shorter ones are filled up to "
        '32 with `[MASK]`, which no token attends to; no vector of 2 tokens (`!` `"`); white space around '
        "the text is removed."
    )
    assert document.startswith(
        'Documents: `[CLS]` `[unused1]` "abc " + text `[SEP]`, at most 90 tokens in all; '
    )
    assert casing == "Casing: the tokenizer ignores case."


@pytest.mark.parametrize(
    ("spare", "said"),
    [
        (0, "as many tokens as the word table has rows"),
        (3, "rows."),
        (50, "rows; are its files whole?"),
        (-1, "a text with one of the others cannot be encoded."),
    ],
)
def test_the_vocabulary_is_set_against_the_word_table(make, spare, said):
    folder = make("plain")
    contract, tokenizer = pipeline(folder, 192).contract, (folder / "tokenizer.json").read_text()
    known = len(vocabulary())
    first, *_ = rules_in_words.rules(contract, tokenizer, known + spare)
    assert first.startswith("Vocabulary: the tokenizer knows ")
    assert said in first and str(known + spare) in first
    assert (str(known) in first.partition(" rows")[0]) == (spare != 0)


def test_every_rule_of_a_contract_is_in_the_words(make):
    """A rule that is added to the contract is said too, by its name if by nothing better."""
    folder = make("plain")
    tokenizer = (folder / "tokenizer.json").read_text()
    plain = pipeline(folder, 192).contract
    other = {
        "max_tokens": 31, "prompt": "xyz ", "marker": 3, "expansion": Expansion(6, True, 7),
        "skiplist": (59,), "strip": True, "swaps": ((7, 8),), "kept": (9,),
        "prompt_kept": False, "window": 12,
    }  # fmt: skip
    for field in msgspec.structs.fields(TextRules):
        changed = msgspec.structs.replace(plain.query, **{field.name: other[field.name]})
        said = msgspec.structs.replace(plain, query=changed)
        assert rules_in_words.rules(said, tokenizer) != rules_in_words.rules(plain, tokenizer), field.name


def test_the_report_says_the_rules_and_what_it_does_not_cover(make, tmp_path):
    export_model(make("pylate"), tmp_path / "out", **QUICK)
    page = (tmp_path / "out" / "REPORT.md").read_text()
    assert "- Queries: `[CLS]` `[Q] ` text `[SEP]`, at most 20 tokens in all" in page
    assert "- Documents: " in page and "`!` `,`" in page
    assert "whether the rules above are the checkpoint's own is not in the table (--compare" in page
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["as_runtime"] > 50 and stored["rules"]


@pytest.mark.parametrize("layout", ["stanford", "pylate"])
def test_a_length_beyond_the_encoder_is_said_everywhere(make, tmp_path, layout):
    source, steps = make(layout), []
    file, key = {
        "stanford": ("artifact.metadata", "doc_maxlen"),
        "pylate": ("config_sentence_transformers.json", "document_length"),
    }[layout]
    settings = json.loads((source / file).read_text())
    (source / file).write_text(json.dumps(settings | {key: 32768}))
    made = export_model(source, tmp_path / "out", **QUICK, progress=steps.append)
    note = f"{file} asks for {key} = 32768, but the encoder takes 192 tokens: longer documents are cut there."
    assert made.notes == (note,)
    assert f"note: {note}" in steps
    assert f"- Note: {note}" in (tmp_path / "out" / "REPORT.md").read_text()
    assert made.document.max_tokens == 192


def test_lengths_within_the_encoder_are_no_note(make, tmp_path):
    assert export_model(make("stanford"), tmp_path / "out", **QUICK).notes == ()


def test_a_cut_head_is_named_with_its_loss():
    def heads(*ndcg):
        return {dim: HeadParity(0, 1, 1, 1, 1, value) for dim, value in zip(("16", "8"), ndcg, strict=True)}

    def page(*ndcg):
        graphs = {"fp32": GraphParity(heads(*ndcg), 1, 1.0)}
        sources = {"16": "linear.weight", "8": "rows 0:8 of the 16 head (linear.weight)"}
        return markdown(Report("tiny", "PyTorch", 1, 1, 1, graphs, [], [], "squad", heads=sources))

    assert "dim 8 is rows 0:8 of the 16 head" in page(None, None) and "was not measured" in page(None, None)
    assert "Its nDCG@10 on squad is 0.0410 below dim 16 (fp32)." in page(0.841, 0.8)


def vectors(*matrices):
    return TokenVectors.from_matrices([np.array(each, np.float32) for each in matrices], 4)


def test_counts_and_differences_are_put_side_by_side():
    one, other, two = [[1, 0, 0, 0]], [[0, 1, 0, 0]], [[1, 0, 0, 0], [0, 0, 1, 0]]
    asked = {"query": ["a", "b"], "document": ["c | d", "e"]}
    ours = {"query": vectors(one, two), "document": vectors(one, two)}
    theirs = {"query": [2 * np.array(one), np.array(two)], "document": [np.array(other), np.array(one)]}
    made = side_by_side._report("theirs 1.0", "fp32", asked, ours, theirs)
    assert not made.agrees
    assert made.same_counts == {"query": 2, "document": 1}
    assert made.max_abs == {"query": 0.0, "document": 1.0}
    assert [(each.text, each.ours, each.theirs) for each in made.differences] == [
        ("e", 2, 1),
        ("c | d", 1, 1),
    ]
    page = markdown(Report("tiny", "PyTorch", 1, 1, 1, {}, [], [], beside=made))
    assert (
        "## Beside theirs 1.0: NOT the same" in page and "| document | `c \\| d` | 1 | 1 | 1.0e+00 |" in page
    )


@needs("colbert", "latebolt[dev-frameworks]")
def test_the_stanford_library_beside_an_export(make, tmp_path):
    steps = []
    export_model(make("stanford"), tmp_path / "out", **QUICK, compare="colbert-ai", progress=steps.append)
    beside = json.loads((tmp_path / "out" / "report.json").read_text())["beside"]
    assert beside["library"].startswith("colbert-ai 0.")
    ordinary = [each for each in beside["differences"] if "[" not in each["text"]]
    assert not ordinary
    assert beside["same_counts"]["query"] == beside["texts"]["query"]
    assert "## Beside colbert-ai" in (tmp_path / "out" / "REPORT.md").read_text()
    assert any("asking colbert-ai" in step for step in steps)


FAILURES = {
    "import sys; sys.exit('ModuleNotFoundError: No module named pylate')": (
        RuntimeUnavailable,
        r"pylate cannot be imported by .*No module named pylate.*--compare-python PATH",
    ),
    "import sys; print('Traceback', file=sys.stderr); sys.exit('KeyError: name')": (
        ExportError,
        "pylate failed on .*checkpoint: KeyError: name",
    ),
}


@pytest.mark.parametrize("code", FAILURES)
def test_a_library_that_fails_is_one_line(tmp_path, code):
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{code}\n")
    fake.chmod(0o755)
    kind, message = FAILURES[code]
    with pytest.raises(kind, match=message) as caught:
        side_by_side.compare(tmp_path, Library("pylate", str(tmp_path / "checkpoint"), fake))
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeUnavailable, match="nowhere: cannot be run"):
        side_by_side.compare(tmp_path, Library("pylate", "checkpoint", tmp_path / "nowhere"))


def test_a_comparison_that_means_nothing_is_refused(make, tmp_path, foreign):
    with pytest.raises(InvalidInput, match="compare should be one of sentence-transformers, pylate"):
        export_model(tmp_path, tmp_path / "out", compare="faiss")
    with pytest.raises(InvalidInput, match="knows nothing of a head file"):
        export_model(make("plain"), tmp_path / "out", head=tmp_path / "head", compare="pylate")
    with pytest.raises(InvalidInput, match="is an ONNX graph, which pylate does not read"):
        export_model(foreign, tmp_path / "out", compare="pylate")
