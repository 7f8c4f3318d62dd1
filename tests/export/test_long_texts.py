"""A document of 8192 tokens needs memory in proportion to its length, whatever kind of attention it meets."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from families import jina_v1, jina_v2, modernbert
from traced import trace

from latebolt_export.graph import cpu_graph, tensors

LONGEST = 8192
# Of a graph this small: activations, and for ALiBi one strip of distances (12 heads x 256 x 2 x 8192 floats,
# 201 MB) and two stretches of scores (101 MB each). One score matrix of one layer alone has 1,074 MB at four
# heads and 3,221 MB at twelve.
MOST_MB = {"rotary": 150, "window": 400, "alibi": 600}
CHILD = """
import resource, sys
import numpy as np
from latebolt.contract import Graph, Head
from latebolt.encoder.session import Session
session = Session(sys.argv[1], Graph(sys.argv[1], 0, ""), Head(16, "embeddings_16"), threads=1)
ids = np.random.default_rng(0).integers(3, 95, 8192)
session.run(ids[:300], 300)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
vectors = session.run(ids, len(ids))
assert vectors.shape == (8192, 16) and np.isfinite(vectors).all()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def longer(family):
    family.config["max_position_embeddings"] = LONGEST + 2
    return family


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize(
    ("kind", "make"),
    [("rotary", jina_v2), ("window", lambda: modernbert(num_hidden_layers=2)), ("alibi", jina_v1)],
)
def test_memory_grows_with_the_length_and_not_with_its_square(kind, make, tmp_path):
    made = trace(longer(make()), kind, tmp_path)
    cpu_graph.split_fused(made.fused)
    cpu_graph.long_texts(made.fused, made.plan.kinds)
    (file,) = tensors.save(made.fused, tmp_path / "model.onnx")
    # A process of its own: the peak of this one is that of all tests before.
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(file)], stdout=subprocess.PIPE, text=True, check=True
    )
    assert float(done.stdout) < MOST_MB[kind]
    assert np.isfinite(float(done.stdout))
