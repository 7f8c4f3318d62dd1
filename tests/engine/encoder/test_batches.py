"""Which texts share a run of a GPU: every text once, within the budget, in the form that it can have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.encoder import batches
from latebolt.encoder.batches import Run, Text, budget, halves, plan
from latebolt.encoder.gpu_runs import FORMS, GpuRuns
from latebolt.errors import InvalidInput

TEXTS = st.lists(st.builds(Text, st.integers(1, 600), st.booleans()), max_size=60)


def padded_size(run: Run, texts: list[Text]) -> int:
    return len(run.texts) * max(texts[i].tokens for i in run.texts)


@given(TEXTS, st.sampled_from(FORMS), st.integers(1, 8192))
def test_every_text_is_in_one_run_that_it_fits(texts, form, most):
    runs = plan(texts, form, most)
    assert sorted(i for run in runs for i in run.texts) == list(range(len(texts)))
    for run in runs:
        lengths = [texts[i].tokens for i in run.texts]
        assert lengths == sorted(lengths, reverse=True)
        held = sum(lengths) if run.form == "ragged" else padded_size(run, texts)
        assert held <= most or len(run.texts) == 1
        assert run.form in ("padded", form)
        if run.form == "equal":
            assert len(set(lengths)) == 1
        if run.form != "padded":
            assert all(texts[i].whole for i in run.texts)


@given(TEXTS, st.integers(1, 8192))
def test_the_longest_of_a_form_runs_first(texts, most):
    longest = [max(texts[i].tokens for i in run.texts) for run in plan(texts, "padded", most)]
    assert longest == sorted(longest, reverse=True)


def test_texts_of_one_length_go_together_and_others_are_padded():
    texts = [Text(7), Text(9), Text(7), Text(3), Text(9), Text(9, whole=False)]
    runs = plan(texts, "equal", 1000)
    assert runs == [Run("equal", (1, 4)), Run("equal", (0, 2)), Run("padded", (5, 3))]


def test_a_text_that_hides_tokens_keeps_its_mask():
    runs = plan([Text(9), Text(9, whole=False), Text(4)], "ragged", 1000)
    assert runs == [Run("ragged", (0, 2)), Run("padded", (1,))]


def test_short_texts_are_not_filled_up_where_a_run_has_enough():
    texts = [Text(500)] * 10 + [Text(100)] * 10
    assert plan(texts, "padded", 50_000) == [
        Run("padded", tuple(range(10))),
        Run("padded", tuple(range(10, 20))),
    ]
    few = [Text(500)] * 2 + [Text(100)] * 2  # one more run would cost more
    assert plan(few, "padded", 50_000) == [Run("padded", (0, 1, 2, 3))]


def test_a_run_has_so_many_texts_at_most():
    sizes = [len(run.texts) for run in plan([Text(1)] * 5000, "padded", 1 << 30)]
    assert sizes == [batches.MOST_ROWS, batches.MOST_ROWS, 5000 - 2 * batches.MOST_ROWS]


def test_alone():
    assert plan([Text(3), Text(5), Text(3)], "padded", 1) == [
        Run("padded", (1,)),
        Run("padded", (0,)),
        Run("padded", (2,)),
    ]


def test_halves():
    assert halves(Run("ragged", (4, 2, 9))) == [Run("ragged", (4, 2)), Run("ragged", (9,))]
    assert halves(Run("padded", (4,))) == [Run("padded", (4,))]


def test_a_budget_follows_what_a_run_took():
    gigabyte = 1 << 30
    # 4,096 tokens took 1 GB of 40: 0.6 * 40 GB for two runs at a time are 12 times as many.
    assert budget(40 * gigabyte, gigabyte, 4096, lanes=2) == 12 * 4096
    assert budget(400 * gigabyte, gigabyte, 4096, lanes=2) == batches.MOST_TOKENS
    assert budget(gigabyte, gigabyte, 4096, lanes=2) == int(0.3 * 4096)
    assert budget(gigabyte // 100, gigabyte, 4096, lanes=2) == batches.LEAST_TOKENS
    assert budget(None, 0, 4096, lanes=2) == batches.DEFAULT_TOKENS
    assert budget(gigabyte, -5, 4096, lanes=2) == batches.MOST_TOKENS
    assert budget(0, 0, 4096, lanes=2) == batches.LEAST_TOKENS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "packed"}, "form should be one of padded, equal, ragged, got 'packed'"),
        ({"tokens": 0}, "tokens should be an int of at least 1"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(InvalidInput, match=message):
        GpuRuns(**settings)
