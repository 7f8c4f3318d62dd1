"""First stages by themselves: what they keep of the exact answers, that they are the same each time, and that
what others have written down about them is not believed."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from topics import DIM, topics

from latebolt import TokenVectors, maxsim
from latebolt.adapters.stages import overlap as judged
from latebolt.adapters.stages.base import MeanStage, PooledStage
from latebolt.adapters.stages.learned import LearnedStage, nearest
from latebolt.adapters.stages.record import named_stage, stage_from
from latebolt.errors import InvalidInput


@pytest.fixture(scope="module")
def sample() -> judged.Sample:
    documents, queries = topics(400, 40)
    return judged.Sample(documents, np.arange(400) % 5 == 0, queries, 400)


@pytest.fixture(scope="module")
def learned(sample) -> LearnedStage:
    return LearnedStage.fit(sample.fitted, features=128)


def test_nearest_is_the_best_similarity_of_each_document(sample):
    tokens, documents = sample.queries[0], sample.documents[:7]
    found = nearest(tokens, documents)
    for j, matrix in enumerate(documents):
        np.testing.assert_allclose(found[:, j], (tokens @ matrix.T).max(axis=1), atol=1e-6)


def test_a_learned_vector_predicts_maxsim_of_documents_it_has_not_seen(sample, learned):
    held_out = np.flatnonzero(sample.held_out)
    vectors = np.stack(learned.of_documents([sample.documents[int(i)] for i in held_out]))
    predicted = np.stack([vectors @ learned.of_query(query) for query in sample.queries])
    exact = np.stack([maxsim(query, sample.documents)[held_out] for query in sample.queries])
    assert np.corrcoef(predicted.ravel(), exact.ravel())[0, 1] > 0.85
    assert abs(float((predicted - exact).mean())) < 0.1


@pytest.mark.parametrize("n_query", [1, 7, 200])
def test_a_querys_vector_is_the_sum_of_its_tokens_features(learned, rng, n_query):
    query = rng.unit(n_query, DIM)
    expected = learned.features_of(query).sum(axis=0)
    assert expected[-1] == n_query
    np.testing.assert_allclose(learned.of_query(query), expected, rtol=1e-4, atol=1e-4)


def test_stages_keep_the_more_the_more_they_cost(sample, learned):
    exact = sample.exact()
    kept = {
        stage.name.split("/")[0]: judged.stage_overlap(stage, sample, exact, 40)
        for stage in (MeanStage(DIM), PooledStage(DIM, 4), learned)
    }
    assert kept["mean"] < 0.8 < kept["learned"] and kept["mean"] + 0.1 < kept["pooled"]
    assert judged.stage_overlap(MeanStage(DIM), sample, exact, 400) == 1.0


def test_the_share_of_a_stage_is_that_of_its_candidates(sample):
    """Against a loop that says what is meant."""
    exact = sample.exact(5)
    shares = []
    for query, wanted in zip(sample.queries, exact, strict=True):
        order = np.argsort(-maxsim(query, sample.documents), kind="stable")
        assert wanted.tolist() == order[:5].tolist()
        means = [matrix.mean(axis=0) for matrix in sample.documents]
        cosines = [float(mean @ query.mean(axis=0) / np.linalg.norm(mean)) for mean in means]
        near = np.argsort([-c for c in cosines], kind="stable")[:30]
        shares.append(len(set(near.tolist()) & set(wanted.tolist())) / 5)
    assert judged.stage_overlap(MeanStage(DIM), sample, exact, 30) == pytest.approx(
        np.mean(shares), abs=0.011
    )


def test_fitting_again_gives_the_same(sample, learned):
    again = LearnedStage.fit(sample.fitted, features=128)
    assert again.name == learned.name and again.record() == learned.record()
    other = LearnedStage.fit(sample.fitted, features=128, seed=1)
    assert other.name != learned.name


def test_what_is_read_back_asks_the_same_and_makes_documents_with_a_sample_alone(sample, learned):
    back = stage_from(learned.record(), DIM, "here")
    assert isinstance(back, LearnedStage) and back.name == learned.name and back.size == 128
    query, documents = sample.queries[0], [sample.documents[3], sample.documents[4]]
    np.testing.assert_array_equal(back.of_query(query), learned.of_query(query))
    with pytest.raises(InvalidInput, match="no sample"):
        back.of_documents(documents)
    solved = back.with_sample(sample.fitted)
    for ours, theirs in zip(solved.of_documents(documents), learned.of_documents(documents), strict=True):
        scores = [vector @ learned.of_query(query) for vector in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=0.3)
    with pytest.raises(InvalidInput, match="size 32, got 3 of 16"):
        back.with_sample(TokenVectors.from_matrices([np.ones((3, 16), np.float32)]))


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 31},
        {"dim": True},
        {"dim": 1 << 40, "size": 1 << 40},
        {"size": -1},
        {"size": 10},
        {"weights": "AAAA"},
        {"weights": "no base64"},
        {"weights": 7},
        {"biases": base64.b64encode(np.full(127, np.nan, "<f4").tobytes()).decode()},
        {"scales": base64.b64encode(np.ones(127, "<f4").tobytes()).decode()},
        {"digest": "0" * 32},
        {"digest": None},
    ],
)
def test_a_damaged_record_is_refused(learned, change):
    with pytest.raises(InvalidInput, match="here: its learned first stage is damaged"):
        stage_from({**learned.record(), **change}, DIM, "here")


@pytest.mark.parametrize("record", [None, [], "mean", {}, {"kind": "sparse"}, {"kind": ["mean"]}])
def test_a_stage_that_is_not_known_is_refused(record):
    with pytest.raises(InvalidInput, match=r"here: has a first stage .* newer latebolt"):
        stage_from(record, DIM, "here")


def test_records_of_the_other_stages(learned):
    assert stage_from(MeanStage(DIM).record(), DIM, "here") == MeanStage(DIM)
    assert stage_from(PooledStage(DIM, 32).record(), DIM, "here") == PooledStage(DIM, 32)
    for factor in (1, 5000, "8", None, True):
        with pytest.raises(InvalidInput, match="here: the factor"):
            stage_from({"kind": "pooled", "factor": factor}, DIM, "here")
    with pytest.raises(InvalidInput, match="vectors of size 32, not 64"):
        stage_from(learned.record(), 64, "here")


def test_what_may_be_asked_for(learned, rng):
    assert named_stage(None, 4) is None and named_stage("mean", 4) == MeanStage(4)
    assert named_stage("pooled", 4) == PooledStage(4, 8) and named_stage(learned, DIM) is learned
    for wanted, said in (
        ("learned", "is fitted to a corpus"),
        ("max", "should be"),
        (MeanStage(8), "size 8"),
    ):
        with pytest.raises(InvalidInput, match=said):
            named_stage(wanted, 4)
    few = TokenVectors.from_matrices([rng.unit(3, 8)] * 63 + [np.zeros((0, 8), np.float32)] * 9)
    with pytest.raises(InvalidInput, match="64 documents with token vectors at least, got 63"):
        LearnedStage.fit(few)
    with pytest.raises(InvalidInput, match="features should be 2 to 4096"):
        LearnedStage.fit(TokenVectors.from_matrices([rng.unit(3, 8)] * 70), features=1)


def test_pooled_names_keep_what_old_digests_rest_on():
    assert PooledStage(4).name == "pooled" and PooledStage(4, 32).name == "pooled/32"
    assert MeanStage(4).name == "mean"


def test_queries_of_documents():
    assert judged.sentence_of(
        "zip.open\nOpens one member of the archive. Returns a file that is read only."
    ) == ("Returns a file that is read only.")
    assert judged.sentence_of("too short. ") is None
    assert judged.sentence_of("only this one has five words") == "only this one has five words"
    matrix = np.arange(80, dtype=np.float32).reshape(40, 2)
    np.testing.assert_array_equal(judged.window_of(matrix), matrix[14:26])
    assert len(judged.window_of(matrix[:3])) == 3


def test_what_is_drawn_of_ids_is_always_the_same():
    drawn = [judged.fraction(f"d{i}", "sample") for i in range(2000)]
    assert 0 <= min(drawn) < 0.01 and 0.99 < max(drawn) < 1 and 0.45 < np.mean(drawn) < 0.55
    assert judged.fraction("d0", "sample") == drawn[0] != judged.fraction("d0", "query")
    assert 300 < sum(judged.is_held_out(f"d{i}") for i in range(2000)) < 500


def test_fewer_candidates_stand_for_a_share_of_a_larger_corpus(sample):
    def of(total: int) -> int:
        return judged.Sample(sample.documents, sample.held_out, sample.queries, total).candidates(200)

    assert [of(400), of(800), of(4000), of(10**7)] == [200, 100, 20, 20]
    assert len(sample.fitted) == 320 and judged.overlap([], []) == 1.0
