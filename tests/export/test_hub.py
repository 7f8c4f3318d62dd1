"""Published numbers of real checkpoints, run wherever their weights can be had.

golden/hello_world.json: the first five dimensions of every token vector (FastEmbed's tests, tolerance 2e-3).
golden/red_planet_maxsim.json: MaxSim of one query with four documents (sentence-transformers' tests, 1e-3).
Both files name their source.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import latebolt
from latebolt.errors import ExportError
from latebolt_export import export_model
from latebolt_export.source.find import locate

GOLDEN = Path(__file__).parent / "golden"
HELLO = json.loads((GOLDEN / "hello_world.json").read_text())
PLANET = json.loads((GOLDEN / "red_planet_maxsim.json").read_text())
NAMES = sorted({*HELLO["models"], *PLANET["maxsim"]})

pytestmark = [pytest.mark.hub, pytest.mark.slow]


@pytest.fixture(scope="module", params=NAMES)
def exported(request, tmp_path_factory):
    """Name and model folder (fp32, int8) of one published checkpoint."""
    try:
        locate(request.param, None, lambda step: None)
    except ExportError as error:
        pytest.skip(f"the hub does not give {request.param}: {error}")
    out = tmp_path_factory.mktemp("hub") / "model"
    export_model(request.param, out, precisions=("fp32", "int8"))
    yield request.param, out


def test_hello_world_vectors(exported):
    name, folder = exported
    if name not in HELLO["models"]:
        pytest.skip(f"hello_world.json has no vectors of {name}")
    encoder = latebolt.Encoder.load(folder, "fp32")
    for kind, encode in (("document", encoder.encode_documents), ("query", encoder.encode_queries)):
        expected = np.array(HELLO["models"][name][kind])
        found = encode([HELLO["text"]])[0]
        assert found.shape[0] == expected.shape[0]
        np.testing.assert_allclose(found[:, :5], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("int8", 0.15)])
def test_red_planet_scores(exported, precision, tolerance):
    name, folder = exported
    if name not in PLANET["maxsim"]:
        pytest.skip(f"red_planet_maxsim.json has no scores of {name}")
    encoder = latebolt.Encoder.load(folder, precision)
    query = encoder.encode_queries([PLANET["query"]])[0]
    scores = latebolt.maxsim(query, encoder.encode_documents(PLANET["documents"]))
    expected = np.array(PLANET["maxsim"][name])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)
    assert scores.argmax() == expected.argmax()
