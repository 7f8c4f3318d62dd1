"""The kernels' choice and making on ARM; what each computes tests/engine/kernels holds, run there too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latebolt.kernels import isa

# Two that are compiled here: a product of floats, and one of bytes by codes.
SCRIPT = """
import sys
import numpy as np
from latebolt.kernels.maxsim import ResidualArrays, maxsim_arrays, maxsim_residual, residual_query

rng = np.random.default_rng(0)
offsets = np.array([0, 3, 20, 61])
query, values = (rng.standard_normal((n, 64)).astype(np.float32) for n in (9, 61))
store = ResidualArrays(
    rng.integers(0, 256, (61, 16)).astype(np.uint8), rng.integers(0, 9, 61).astype(np.uint16),
    rng.integers(0, 256, 61).astype(np.uint8), rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32),
    np.arange(16).astype(np.uint8) * 7,
)
prepared = residual_query(query, rng.standard_normal((9, 64)).astype(np.float32), np.ones(64, np.float32))
scores = maxsim_arrays(query, values, offsets), maxsim_residual(prepared, store, 2, offsets)
np.save(sys.argv[1], np.stack(scores))
print("numba" in sys.modules)
"""


def test_the_cpu_is_seen_as_what_it_is():
    said = Path("/proc/cpuinfo").read_text()
    dot = "asimddp" in said.split()
    assert isa.available() == [*(["neon_dot"] if dot else []), "neon", "portable"]


@pytest.mark.parametrize("name", isa.available()[:-1])
def test_what_is_compiled_here_computes_the_same_bits_as_what_was_compiled_ahead(name, tmp_path):
    scores = {}
    for how in ("jit", os.environ.get("LATEBOLT_KERNELS", "")):
        path = tmp_path / f"{'jit' if how == 'jit' else 'ahead'}.npy"
        environment = {**os.environ, "LATEBOLT_KERNELS": how, "LATEBOLT_ISA": name}
        command = [sys.executable, "-c", SCRIPT, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**environment, "LATEBOLT_CACHE": str(tmp_path)}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(how == "jit")]
        scores[path.stem] = np.load(path)
    np.testing.assert_array_equal(scores["jit"], scores["ahead"])
