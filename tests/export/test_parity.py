"""Comparison and budgets, on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.errors import ExportError, InvalidInput
from latebolt_export.budgets import Budgets
from latebolt_export.parity import GraphParity, HeadParity, Report, compare, hold_to
from latebolt_export.report import markdown, summary

EXACT = HeadParity(max_abs=0.0, cosine_mean=1.0, cosine_p1=1.0, cosine_min=1.0)


def report(precision: str, head: HeadParity) -> Report:
    graph = GraphParity({"128": EXACT, "64": head}, bytes=1_500_000, tokens_per_second=1234.0)
    return Report("tiny", 2, 30, {precision: graph}, ["layer/a (1.0e-02)", "layer/b (5.0e-03)"])


def test_compare_against_hand_made_rows():
    expected = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    found = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]], np.float32)
    got = compare(expected, found)
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


def test_budgets_may_be_loosened_but_not_to_nonsense():
    hold_to(Budgets(int8_mean_cosine=0.9), report("int8", HeadParity(0, 0.95, 0, 0)))
    with pytest.raises(InvalidInput, match=r"fp16_min_cosine should be in -1\.\.1, got 2"):
        Budgets(fp16_min_cosine=2)


def test_page_has_a_row_for_each_head_and_the_contract_no_speed():
    page = markdown(report("int8", EXACT))
    assert page.count("| int8 |") == 2
    assert "1,234" in page
    assert "tokens_per_second" not in str(summary(report("int8", EXACT)))
