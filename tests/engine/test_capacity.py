"""How many machines a corpus wants: the constants are those measured, and a plan keeps what it promises."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in_process import latebolt
from latebolt.capacity import (
    ENCODED,
    MOST_TOKENS,
    PROCESS_GB,
    RAY_MS,
    SEARCHES,
    THREADS,
    Machine,
    Wish,
    mean_ms,
    plan,
    search_ms,
    slowest_of,
    stores,
)
from latebolt.cost import Corpus
from latebolt.errors import InvalidInput

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def rows(name):
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def test_the_constants_are_those_that_were_measured():
    measured = [(row["tokens"], row["p50_ms"], row["p95_ms"]) for row in rows("scale")]
    assert [each.tokens for each in SEARCHES] == [tokens for tokens, _, _ in measured]
    for each, (_, p50, p95) in zip(SEARCHES, measured, strict=True):
        assert (each.p50_ms, each.p95_ms) == (pytest.approx(p50, abs=0.01), pytest.approx(p95, abs=0.01))
    encoders = {"starter": "384 wide, 6 layers", "multilingual": "multilingual, 384 wide, 12 layers"}
    for model, encoder in encoders.items():
        [row] = [r for r in rows("encode") if (r["encoder"], r["contender"]) == (encoder, "latebolt int8")]
        assert ENCODED[model] == pytest.approx(row["tokens_per_s"] / row["threads"], rel=0.01)
    [over] = [row["over_whole_ms"] for row in rows("nodes") if row["what"] == "Ray, 4 shards"]
    assert pytest.approx(over, abs=0.1) == RAY_MS
    assert max(row["peak_MB"] for row in rows("memory_caps") if row["job"] == "serve") <= PROCESS_GB * 1e3


def test_times_are_measured_ones_and_between_them_and_never_beyond():
    for each in SEARCHES:
        assert search_ms(each.tokens) == (pytest.approx(each.p50_ms), pytest.approx(each.p95_ms))
    between = [search_ms(tokens)[0] for tokens in np.geomspace(1e5, MOST_TOKENS, 50)]
    assert between == sorted(between) and between[0] == SEARCHES[0].p50_ms
    with pytest.raises(InvalidInput, match="more than were measured"):
        search_ms(MOST_TOKENS + 1)


def test_the_slowest_of_several_is_what_drawing_them_says(rng):
    sigma = math.log(30 / 12) / 1.6448536
    drawn = 12 * np.exp(sigma * rng.standard_normal((40_000, 8)))
    assert slowest_of(12, 30, 1) == (pytest.approx(12), pytest.approx(30))
    expected = np.quantile(drawn.max(axis=1), [0.5, 0.95])
    assert slowest_of(12, 30, 8) == (
        pytest.approx(expected[0], rel=0.03),
        pytest.approx(expected[1], rel=0.03),
    )
    assert mean_ms(12, 30) == pytest.approx(drawn.mean(), rel=0.02)


@settings(max_examples=60, deadline=None)
@given(
    documents=st.integers(1, 3 * 10**9),
    tokens=st.floats(1, 500),
    memory=st.floats(16, 1000),
    cores=st.integers(1, 20),
    queries=st.floats(0.1, 500),
    p95=st.floats(20, 2000),
    replicas=st.integers(1, 3),
)
def test_a_plan_keeps_what_it_promises(documents, tokens, memory, cores, queries, p95, replicas):
    corpus, machine = Corpus(documents, tokens), Machine(memory, cores, usd_month=100)
    wish = Wish(queries, p95, replicas, overhead_ms=2.0)
    try:
        found = plan(corpus, machine, wish)
    except InvalidInput as error:
        assert "no number of shards" in str(error)
        return
    assert corpus.tokens / found.shards <= MOST_TOKENS
    assert found.machines * machine.room_gb >= replicas * found.index_gb * (1 - 1e-9)
    assert found.p95_ms <= p95 and found.p50_ms <= found.p95_ms
    assert found.queries_per_second >= queries * (1 - 1e-9)
    assert found.machines >= replicas and found.usd_month == 100 * found.machines
    # Work is conserved: no plan answers more than its processors can.
    work_s = found.shards * THREADS * mean_ms(*search_ms(corpus.tokens / found.shards)) / 1e3
    assert found.queries_per_second * work_s <= found.machines * cores


def test_more_of_anything_wanted_needs_no_fewer_machines():
    def machines(documents=10**8, **wish):
        return plan(Corpus(documents, 60), Machine(), Wish(**wish)).machines

    assert machines() <= machines(10**9) and machines() <= machines(replicas=2)
    assert machines(p95_ms=1000) <= machines(p95_ms=200) <= machines(p95_ms=150)
    assert machines() <= machines(queries_per_second=200)


def test_what_cannot_be_is_said():
    with pytest.raises(InvalidInput, match="no room for an index"):
        Machine(2, 64)
    with pytest.raises(InvalidInput, match=r"p95 of 10,000,000 documents to 1 ms; the least is about"):
        plan(Corpus(10**7, 60), wish=Wish(p95_ms=1))
    for wrong in ({"replicas": 0}, {"queries_per_second": 0}, {"p95_ms": float("inf")}):
        with pytest.raises(InvalidInput):
            Wish(**wrong)
    for wrong in ({"usable": 0}, {"busy": 1.5}, {"usd_month": -1}, {"cores": 0}):
        with pytest.raises(InvalidInput):
            Machine(**wrong)


def test_other_stores_by_their_bytes():
    found = {each.store: each for each in stores(Corpus(10**8, 60), Machine(128, 16))}
    float32 = 6e9 * 128 * 4
    assert found["Qdrant float32"].gb == float32 / 1e9
    assert found["Qdrant float32"].machines == math.ceil(float32 / 1e9 / Machine(128, 16).room_gb)
    assert found["latebolt 2 bit"].machines * 9 < found["Qdrant float32"].machines


def test_the_page_shows_what_the_command_prints():
    page = (RESULTS.parents[1] / "docs" / "scaling.md").read_text()
    shown = re.findall(r"^latebolt (plan .*)\n```\n\n((?:    .*\n|\n(?=    ))+)", page, re.M)
    assert len(shown) == 2
    for command, output in shown:
        done = latebolt(*command.split())
        assert done.returncode == 0, done.stderr
        assert [line.rstrip() for line in done.stdout.splitlines()] == [
            line.removeprefix("    ") for line in output.splitlines()
        ]
