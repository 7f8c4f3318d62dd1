"""Calibrations: what is fitted, from what, where it is put, and that the shipped ones can be made again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import latebolt
from latebolt import Encoder, confidence
from latebolt.errors import ExportError
from latebolt.evaluate import Collection, read_collection
from latebolt_export import calibrate, multilingual, starter
from latebolt_export.judge.confidence import DOCUMENTS, MISJUDGED, Pairs, fit, pairs_of, part_of

MODELS = Path(latebolt.__file__).parent / "models"
PROJECT = Path(__file__).parents[2]


def simulated(rng: np.random.Generator, n: int, offset: float, slope: float) -> Pairs:
    """Pairs whose answers are drawn by such a calibration."""
    n_query = rng.integers(4, 24, n)
    means = rng.normal(-offset / slope, 2 / slope, n)
    logits = offset + slope * means
    return Pairs(means * n_query, n_query, rng.random(n) < 1 / (1 + np.exp(-logits)))


def test_it_finds_what_made_the_pairs():
    pairs = simulated(np.random.default_rng(1), 60_000, -12.0, 20.0)
    share = pairs.answers.mean()
    found = fit([pairs], 64, "f")
    # Both kinds count alike, so what answers more often than not has its share taken off.
    offset = found.offset + np.log(share / (1 - share))
    assert (found.dim, found.fingerprint) == (64, "f")
    assert offset == pytest.approx(-12, rel=0.05) and found.slope == pytest.approx(20, rel=0.05)
    right = [found.of(s, n).value for s, n, a in zip(*pairs, strict=True) if a]
    assert np.mean(np.array(right) < found.weak_below) == pytest.approx(MISJUDGED, abs=0.01)


def test_collections_count_alike_whatever_their_size():
    rng = np.random.default_rng(2)
    few, many = simulated(rng, 2_000, -12.0, 20.0), simulated(rng, 40_000, -6.0, 20.0)
    both, one = fit([few, many], 64, "f"), fit([few, few], 64, "f")
    middle = -both.offset / both.slope
    assert 0.35 < middle < 0.55 and -one.offset / one.slope == pytest.approx(0.6, abs=0.02)


def test_kinds_that_do_not_overlap_give_finite_numbers():
    scores = np.repeat([2.0, 6.0], 200)
    found = fit([Pairs(scores, np.full(400, 8), scores > 4)], 64, "f")
    assert np.isfinite([found.offset, found.slope]).all()
    assert found.of(2.0, 8).value < 0.1 < 0.9 < found.of(6.0, 8).value


def test_what_cannot_be_fitted_is_refused():
    rng = np.random.default_rng(4)
    with pytest.raises(ExportError, match="at least 100 questions"):
        fit([simulated(rng, 80, -12.0, 20.0)], 64, "f")
    pairs = simulated(rng, 4_000, -12.0, 20.0)
    with pytest.raises(ExportError, match="no better than others"):
        fit([pairs._replace(answers=~pairs.answers)], 64, "f")


def questions(n: int) -> Collection:
    """Each with one document that answers it among others."""
    names = [f"Place{i} in the {'north' if i % 2 else 'south'}" for i in range(n)]
    documents = {f"d{i}": f"{name} has {i + 7} inhabitants." for i, name in enumerate(names)}
    asked = {f"q{i}": f"How many people live in {name}?" for i, name in enumerate(names)}
    return Collection("places", documents, asked, {f"q{i}": {f"d{i}": 1} for i in range(n)})


def test_a_question_gives_its_best_answer_and_the_best_of_the_others():
    encoder, collection = Encoder.load("starter", threads=2), questions(6)
    pairs = pairs_of(collection, encoder, bits=32)
    assert pairs.answers.tolist() == [True, False] * 6
    for i, (name, text) in enumerate(collection.queries.items()):
        hits = encoder.rerank(text, list(collection.documents.values()))
        answer = int(next(iter(collection.qrels[name]))[1:])
        scores = {hit.id == answer: hit.score for hit in reversed(hits)}
        assert pairs.scores[2 * i] == pytest.approx(scores[True], rel=1e-5)
        assert pairs.scores[2 * i + 1] == pytest.approx(scores[False], rel=1e-5)
        assert pairs.n_query[2 * i] == len(encoder.encode_queries([text])[0])


def test_of_a_large_collection_a_part_is_used():
    whole = questions(1000)
    part = part_of(whole, documents=50, questions=20, first=100)
    assert list(part.documents) == [f"d{i}" for i in range(100, 150)] and len(part.queries) == 20
    assert all(name in part.documents for query in part.queries for name in part.qrels[query])
    assert len(part_of(whole).documents) == DOCUMENTS


def written(folder: Path, collection: Collection) -> Path:
    folder.mkdir()
    for name, texts in (("corpus", collection.documents), ("queries", collection.queries)):
        lines = (json.dumps({"_id": id_, "text": text}) for id_, text in texts.items())
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    judged = (f"{q}\t{d}\t{g}" for q, grades in collection.qrels.items() for d, g in grades.items())
    (folder / "qrels.tsv").write_text("\n".join(judged))
    return folder


def test_the_command_writes_a_file_that_the_model_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "cache_folder", lambda _: None)
    folder, out = written(tmp_path / "places", questions(120)), tmp_path / "confidence.json"
    done = CliRunner().invoke(calibrate.main, ["starter", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = confidence.read(tmp_path)
    assert [each.dim for each in found.calibrations] == [128, 96, 64]
    assert found.fitted["collections"] == {"places": 120}
    encoder = Encoder.load("starter", threads=2)
    assert found.at(encoder.fingerprint).dim == 128 and found.at(encoder.with_dim(64).fingerprint).dim == 64
    done = CliRunner().invoke(calibrate.main, ["starter", str(folder)])
    assert done.exit_code == 2 and "--out" in done.output  # an installed package is not written into
    done = CliRunner().invoke(calibrate.main, ["starter", str(tmp_path / "none"), "--out", str(out)])
    assert done.exit_code == 1 and "there is no such folder" in done.output


@pytest.mark.parametrize("recipe", [starter, multilingual], ids=lambda recipe: recipe.NAME)
def test_the_shipped_calibration_is_the_recipes_and_of_the_shipped_vectors(recipe):
    shipped = MODELS / recipe.NAME
    data = PROJECT / "export" / "latebolt_export" / "data" / f"{recipe.NAME}_confidence.json"
    assert (shipped / confidence.FILE_NAME).read_bytes() == data.read_bytes()
    folder = Encoder.load(recipe.NAME, threads=1).folder
    prints = {head.dim: folder.contract.fingerprint(head.dim) for head in folder.contract.heads}
    assert {each.dim: each.fingerprint for each in confidence.read(shipped).calibrations} == prints


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("model", ["starter", "multilingual"])
def test_the_shipped_calibration_is_what_its_collections_give(model):
    root = Path(os.environ.get("LATEBOLT_DATA", PROJECT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real collections are not at {root}; set LATEBOLT_DATA")
    shipped = confidence.read(MODELS / model)
    collections = [read_collection(root / name) for name in shipped.fitted["collections"]]
    encoder = Encoder.load(model, threads=2)
    sets = [pairs_of(part_of(each), encoder) for each in collections]
    made = fit(sets, encoder.dim, encoder.fingerprint)
    kept = encoder.calibration
    for score in (0.3, 0.5, 0.7, 0.9):
        assert made.of(10 * score, 10).value == pytest.approx(kept.of(10 * score, 10).value, abs=0.01)
    assert made.weak_below == pytest.approx(kept.weak_below, abs=0.01)
