"""Comparison and budgets, on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.contract import Contract, Expansion, Frame, Provenance, TextRules
from latebolt.encoder.text import TextPipeline
from latebolt.errors import ExportError, InvalidInput
from latebolt_export.judge.budgets import Budgets
from latebolt_export.judge.parity import GraphParity, HeadParity, Report, compare, rank_agreement, sample
from latebolt_export.judge.report import markdown, summary
from latebolt_export.judge.verdict import hold_to

EXACT = HeadParity(max_abs=0.0, cosine_mean=1.0, cosine_p1=1.0, cosine_min=1.0)


def report(precision: str, head: HeadParity) -> Report:
    graph = GraphParity({"128": EXACT, "64": head}, bytes=1_500_000, tokens_per_second=1234.0)
    worst = ["layer/a (1.0e-02)", "layer/b (5.0e-03)"]
    return Report("tiny", "PyTorch", 2, 30, 20, {precision: graph}, worst, [])


def test_compare_against_hand_made_rows():
    expected = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    found = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]], np.float32)
    got = compare([expected], [found], 0)
    assert got.max_abs == pytest.approx(0.6)
    assert got.cosine_mean == pytest.approx((1 + 0.8 + 0.8) / 3)
    assert got.cosine_min == pytest.approx(0.8)
    assert got.cosine_min <= got.cosine_p1 <= got.cosine_mean


@pytest.mark.parametrize(
    ("precision", "head", "message"),
    [
        (
            "fp32",
            HeadParity(2e-4, 1, 1, 1),
            r"fp32 dim 64: largest absolute difference .* at most 0\.0001, got 0\.0002",
        ),
        (
            "fp16",
            HeadParity(0, 1, 1, 0.998),
            r"fp16 dim 64: smallest token cosine .* at least 0\.999, got 0\.998",
        ),
        (
            "int8",
            HeadParity(0, 0.98, 0, 0),
            r"int8 dim 64: mean token cosine .*got 0\.98\. Worst MatMuls: layer/a",
        ),
        ("fp32", HeadParity(float("nan"), 1, 1, 1), "got nan"),
    ],
)
def test_past_a_budget_is_an_error(precision, head, message):
    hold_to(Budgets(), report(precision, EXACT))
    with pytest.raises(ExportError, match=message):
        hold_to(Budgets(), report(precision, head))


def test_documents_of_other_lengths_are_ranked_by_their_maxsim():
    documents = [[[1, 0]], [[0, 1], [0.6, 0.8]], [[0.8, 0.6]]]
    query = [[1, 0], [0, 1]]  # its MaxSim: 1, 1.6, 1.4
    expected = [np.array(each, np.float32) for each in (*documents, query)]
    assert compare(expected, expected, 1).rank_agreement == 1
    changed = [*expected]
    changed[1] = np.array([[0, 1], [0, 1]], np.float32)  # 1, 1, 1.4: only one of three pairs as before
    assert compare(expected, changed, 1).rank_agreement == pytest.approx(1 / 3)


def test_budgets_may_be_loosened_but_not_to_nonsense():
    hold_to(Budgets(int8_mean_cosine=0.9), report("int8", HeadParity(0, 0.95, 0, 0)))
    with pytest.raises(InvalidInput, match=r"fp16_min_cosine should be in -1\.\.1, got 2"):
        Budgets(fp16_min_cosine=2)


def test_page_has_a_row_for_each_head_and_the_contract_no_speed():
    page = markdown(report("int8", EXACT))
    assert page.count("| int8 |") == 2
    assert "1,234" in page
    assert "tokens_per_second" not in str(summary(report("int8", EXACT)))


def test_rank_agreement_is_the_share_of_pairs_in_the_same_order():
    expected = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert rank_agreement(expected, 10 * expected) == 1
    assert rank_agreement(expected, -expected) == 0
    assert rank_agreement(expected, np.array([[2.0, 3.0, 1.0], [1.0, 2.0, 3.0]])) == pytest.approx(5 / 6)
    assert rank_agreement(np.zeros((0, 3)), np.zeros((0, 3))) == 1


def pipeline(folder, limit, **query):
    rules = Contract(
        name="tiny",
        architecture="bert",
        hidden_size=32,
        max_tokens=limit,
        heads=(),
        frame=Frame((4,), (5,), 0),
        query=TextRules(32, marker=1, **query),
        document=TextRules(min(limit, 90), marker=2, prompt="abc "),
        graphs={},
        source=Provenance("tiny"),
    )
    return TextPipeline(folder / "tokenizer.json", rules)


@pytest.mark.parametrize("limit", [40, 192, 1100])
def test_sample_has_every_length_up_to_the_limit_and_keeps_the_frame(make, limit):
    folder = make("plain")
    made = sample((folder / "tokenizer.json").read_text(), pipeline(folder, limit))
    lengths = [len(one) for one in made.ids]
    assert {1, 2, 3, 5, 9, 17, 33, limit} <= set(lengths)
    assert max(lengths) == limit
    assert made.n_queries > 8
    assert made.masked == 0
    for one in made.ids:
        assert one.dtype == np.int64
        assert one[0] == 4
        assert len(one) < 3 or one[-1] == 5


@pytest.mark.parametrize("attend", [False, True])
def test_sample_has_texts_and_masks_as_the_runtime_makes_them(make, attend):
    folder = make("plain")
    rules = pipeline(folder, 192, expansion=Expansion(6, attend))
    made = sample((folder / "tokenizer.json").read_text(), rules)
    queries = list(zip(made.ids, made.masks, strict=True))[-made.n_queries :]
    documents = list(zip(made.ids, made.masks, strict=True))[-made.as_runtime : -made.n_queries]
    letters = [7, 33 + 1, 33 + 2]  # a ##b ##c: the prompt
    for ids, mask in documents:
        assert ids[:5].tolist() == [4, 2, *letters] and mask.all()
    for ids, mask in queries:
        assert ids[:2].tolist() == [4, 1] and len(ids) == 32
        filled = ids == 6
        assert mask.tolist() == (np.ones(32) if attend else ~filled).tolist()
    assert (made.masked > 0) is not attend


def test_int8_may_lose_only_so_much_of_a_collections_ndcg():
    def heads(ndcg):
        return GraphParity({"16": HeadParity(0, 1, 1, 1, 1, ndcg)}, 1, 1.0)

    both = {"fp32": heads(0.9), "int8": heads(0.896)}
    made = Report("tiny", "PyTorch", 2, 30, 20, both, ["layer/a (1.0e-02)"], [], "squad")
    hold_to(Budgets(), made)
    message = (
        r"int8 dim 16: nDCG@10 on squad should be at most 0\.002 below fp32, got 0\.0040\. Worst MatMuls"
    )
    with pytest.raises(ExportError, match=message):
        hold_to(Budgets(int8_ndcg_loss=0.002), made)
    page = markdown(made)
    assert "| nDCG@10 |" in page
    assert "nDCG@10 on squad" in page
