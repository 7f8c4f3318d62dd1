"""Confidence: a number in [0, 1] beside the score, from the model's own folder, that changes nothing else."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import msgspec
import pytest

import latebolt
from latebolt import Encoder, Hit, Index, confidence
from latebolt.cli.common import hit_lines
from latebolt.confidence import Calibration, Calibrations
from latebolt.errors import ModelError

BUILT_IN = Path(latebolt.__file__).parent / "models"
PASSAGES = [
    "Berlin is the capital of Germany and its largest city, with 3.85 million inhabitants.",
    "Ovens bake bread at high temperatures.",
    "Trains run late in winter.",
]
RIGHT, WRONG, NONSENSE = (
    "How many people live in Berlin?",
    "Who painted the Mona Lisa?",
    "zxqv blorp wibble snarf",
)


@pytest.fixture(scope="module", params=["starter", "multilingual"])
def built_in(request) -> Encoder:
    return Encoder.load(request.param, threads=2)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The starter as it was before there was confidence."""
    folder = tmp_path / "bare"
    shutil.copytree(BUILT_IN / "starter", folder, ignore=shutil.ignore_patterns(confidence.FILE_NAME))
    return folder


def calibration(**changed: float) -> Calibration:
    values = {"offset": -10.0, "slope": 15.0, "weak_below": 0.4}
    return Calibration(dim=128, fingerprint="abc", **{**values, **changed})


def test_it_is_a_logistic_function_of_the_mean_cosine():
    found = calibration().of(score=6.0, n_query=8)
    assert found.value == pytest.approx(1 / (1 + math.exp(10 - 15 * 6 / 8)))
    assert not found.weak and calibration(weak_below=0.99).of(6.0, 8).weak
    values = [calibration().of(score, 8).value for score in (-8.0, 0.0, 5.0, 6.0, 8.0)]
    assert values == sorted(values) and 0 <= values[0] < values[-1] <= 1
    assert calibration(offset=-1e6).of(0.0, 1).value == 0 and calibration(offset=1e6).of(0.0, 0).value == 1


@pytest.mark.parametrize("dim", [128, 96, 64])
def test_right_answers_wrong_ones_and_nonsense_are_told_apart(built_in, dim):
    encoder = built_in.with_dim(dim)
    right, wrong, nonsense = (encoder.rerank(query, PASSAGES, 1)[0] for query in (RIGHT, WRONG, NONSENSE))
    assert right.text == PASSAGES[0]
    assert right.confidence > 0.4 > max(wrong.confidence, nonsense.confidence)
    assert (right.weak, wrong.weak, nonsense.weak) == (False, True, True)


def test_a_folder_without_a_calibration_gives_none_and_the_same_vectors(bare, encoder):
    with Encoder.load(bare, threads=2) as without:
        assert without.fingerprint == encoder.fingerprint and without.calibration is None
        hits = without.rerank(RIGHT, PASSAGES)
        assert {(hit.confidence, hit.weak) for hit in hits} == {(None, False)}
        assert "confidence" not in hits[0].record() and "confidence" not in hit_lines(1, hits[0])
        assert hits == encoder.rerank(RIGHT, PASSAGES)  # in the same order, with the same scores


def test_a_calibration_of_other_vectors_is_none(bare, encoder):
    found = confidence.read(BUILT_IN / "starter")
    others = tuple(msgspec.structs.replace(each, fingerprint="0" * 16) for each in found.calibrations)
    (bare / confidence.FILE_NAME).write_bytes(
        confidence.content(msgspec.structs.replace(found, calibrations=others))
    )
    with Encoder.load(bare, threads=2) as encoder:
        assert encoder.calibration is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"calibrations": [], "format": "x"}', 'format: should be "latebolt-confidence", got "x"'),
        (b'{"calibrations": [], "format_version": 2}', "format_version: should be 1, got 2"),
        (confidence.content(Calibrations((calibration(slope=0.0),))), "slope: should be above 0, got 0.0"),
        (confidence.content(Calibrations((calibration(weak_below=2.0),))), "weak_below: should be in 0..1"),
    ],
)
def test_a_damaged_file_is_named(bare, content, says):
    (bare / confidence.FILE_NAME).write_bytes(content)
    with pytest.raises(ModelError, match=r"confidence\.json: .*Make it again with") as raised:
        Encoder.load(bare)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_written_is_read(tmp_path):
    kept = Calibrations((calibration(), calibration(offset=-1.5)), {"collections": {"a": 3}})
    (tmp_path / confidence.FILE_NAME).write_bytes(confidence.content(kept))
    assert confidence.read(tmp_path) == kept and confidence.read(tmp_path / "elsewhere") is None


def test_an_index_tells_it_wherever_late_interaction_scores(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder, bits=16)
    index.add(PASSAGES, ids=["berlin", "bread", "trains"])
    late, hybrid = index.search(RIGHT), index.search(RIGHT, mode="hybrid")
    [matrix] = encoder.encode_queries([RIGHT])
    for hit in late:
        expected = encoder.calibration.of(hit.score, len(matrix))
        assert (hit.confidence, hit.weak) == expected
    by_id = {hit.id: hit.confidence for hit in late}
    assert {hit.id: hit.confidence for hit in hybrid} == pytest.approx(by_id, abs=1e-3)
    assert hybrid[0].score != pytest.approx(late[0].score)
    assert index.search(RIGHT, mode="bm25")[0].confidence is None
    assert index.search_vectors(matrix)[0].confidence is None  # whose vectors these are, nobody says
    found = index.search(RIGHT, explain=True)
    assert [hit.confidence for hit in found.hits] == [hit.confidence for hit in late]
    assert found.record()["hits"][0]["confidence"] == late[0].confidence
    [[many]] = index.search_many([RIGHT], k=1)
    assert many.confidence == late[0].confidence == json.loads(json.dumps(many.record()))["confidence"]


def test_the_order_of_hits_is_that_of_their_confidence(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    index.add([f"{text} {n}" for n, text in enumerate(PASSAGES * 5)])
    values = [hit.confidence for hit in index.search(RIGHT, k=15)]
    assert len(values) == 15 and values == sorted(values, reverse=True)


def test_a_long_question_is_no_better_for_its_length(encoder):
    """What a sum of cosines is not."""
    short, long = (
        "Berlin inhabitants",
        f"I would like to know, if I may ask, {RIGHT} Please tell me, thank you!",
    )
    [one], [other] = (encoder.rerank(query, PASSAGES, 1) for query in (short, long))
    assert other.score > 2 * one.score and abs(other.confidence - one.confidence) < 0.5
    [nonsense] = encoder.rerank(" ".join([NONSENSE] * 8), PASSAGES, 1)
    assert nonsense.score > one.score and nonsense.weak and not one.weak


def test_people_see_it_and_a_weak_match_is_called_so():
    hit = Hit("a", 4.01, "text", confidence=0.1234, weak=True)
    assert "confidence 0.12, weak match" in hit_lines(1, hit)
    assert "weak" not in hit_lines(1, Hit("a", 4.01, "text", confidence=0.87))
    assert hit.record()["confidence"] == 0.1234 and hit.record()["weak"] is True
    assert hit == Hit("a", 4.01, "text")  # it follows from the score
