"""`latebolt export` as a person types it: options reach the exporter, a fault is one line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from latebolt import cli


@pytest.fixture
def run(capfd):
    """run(*arguments) -> stdout, stderr, and checks the exit code."""

    def run(*arguments, code=0):
        found = cli.run(["export", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert found == code, err
        return out, err

    return run


def test_the_report_is_printed_and_the_steps_go_to_stderr(make, tmp_path, run):
    out, err = run(make("stanford"), tmp_path / "out", "--precisions", "fp32", "--dims", "16,8")
    assert out.strip() == (tmp_path / "out" / "REPORT.md").read_text().strip()
    assert "| fp32 | 8 |" in out
    assert "tracing and fusing" in err


def test_options_reach_the_contract(make, tmp_path, run):
    files = []
    for dim in (12, 4):
        files += ["--head", tmp_path / f"{dim}.safetensors"]
        save_file({"linear.weight": torch.randn(dim, 32)}, files[-1])
    options = ["--precisions", "int8", "--isa", "avx512_vnni", "--name", "mine", "--int8-mean-cosine", "0.5"]
    made = json.loads(run(make("plain"), tmp_path / "out", *files, *options, "--json")[0])
    assert (made["name"], made["graphs"]["int8"]["isa"]) == ("mine", "avx512_vnni")
    assert [head["dim"] for head in made["heads"]] == [12, 4]


def test_a_budget_of_ones_own_fails_in_one_line(make, tmp_path, run):
    options = ["--precisions", "fp32", "--fp32-max-abs", "1e-12"]
    _, err = run(make("stanford"), tmp_path / "out", *options, code=1)
    assert "fp32" in err.splitlines()[-1] and "1e-12" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--dims", "wide"], "--dims should be numbers"),
        (["--precisions", "fp64"], "precisions should be some of"),
        (["--int8-mean-cosine", "2"], "int8_mean_cosine should be in -1..1"),
        (["--isa", "mmx"], "--isa"),
        (["--collection", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_misuse_says_what_is_wrong(make, tmp_path, run, options, expected):
    _, err = run(make("stanford"), tmp_path / "out", *options, code=2)
    assert expected in err.splitlines()[-1] and "reading" not in err  # before any work
    assert not (tmp_path / "out").exists()


def test_a_head_file_that_is_missing_is_named(make, tmp_path, run):
    _, err = run(make("plain"), tmp_path / "out", "--head", tmp_path / "head.safetensors", code=1)
    assert str(tmp_path / "head.safetensors") in err.splitlines()[-1]
