"""The script that has all seen on a GPU runs whole on the CPU, and says what it wants."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest

from quick_benchmarks import BENCHMARKS


@pytest.mark.slow
def test_gpu_sh_runs_whole_without_a_gpu(tmp_path):
    done = subprocess.run(
        [BENCHMARKS / "gpu.sh", "--quick", "--out", tmp_path / "out", "--python", sys.executable],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
    )
    log = (tmp_path / "out" / "log.txt").read_text()
    steps = dict(line.split(": ", 1) for line in (tmp_path / "out" / "summary.txt").read_text().splitlines())
    for name in (
        "doctor",
        "make the models for checks",
        "tests/export/test_gpu.py",
        "encode_gpu",
        "index_gpu",
        "search_gpu",
    ):
        assert steps[name].startswith("well"), (name, steps[name], done.stderr, log[-3000:])
    rows = [ast.literal_eval(line) for line in log.splitlines() if line.startswith("{'gpu': 'none: a dry")]
    peers = ("FastEmbed", "flash-maxsim", "late-interaction-kernels")
    assert [row for row in rows if "failed" in row and not row["contender"].startswith(peers)] == []
    least = [row["least cosine to fp32"] for row in rows if row.get("least cosine to fp32")]
    assert len(least) == 14 and min(least) > 0.999
    assert {row["contender"] for row in rows if "share of encoding" in row} == {
        "encoding alone",
        "texts to index",
        "texts to index, codes on the CPU",
    }
    assert {row["contender"] for row in rows if "of the bandwidth" in row} >= {"latebolt 2 bit", "torch bf16"}
    assert not json.loads((tmp_path / "out" / "doctor.json").read_text())["gpu"]["usable"]
    assert not list((tmp_path / "out").glob("*_gpu.json"))  # nothing that no GPU gave


def test_gpu_sh_says_what_it_wants():
    for arguments, said in (([], "give --out"), (["--out", "x", "--speed"], "what is --speed?")):
        done = subprocess.run([BENCHMARKS / "gpu.sh", *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr
