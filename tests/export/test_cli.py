"""`latebolt export` as a person types it: options reach the exporter, a fault is one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from latebolt import cli, contract


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
    options += ["--document-window", "20"]
    made = json.loads(run(make("plain"), tmp_path / "out", *files, *options, "--json")[0])
    assert (made["name"], made["graphs"]["int8"]["isa"]) == ("mine", "avx512_vnni")
    assert [head["dim"] for head in made["heads"]] == [12, 4]
    assert (made["document"]["window"], made["document"]["max_tokens"]) == (20, 8192)
    assert (
        made["query"]["window"] is None
        and "windows of so many" in (tmp_path / "out" / "REPORT.md").read_text()
    )


def test_a_window_that_the_model_cannot_read_is_refused(make, tmp_path, run):
    options = ["--precisions", "fp32", "--document-window", "5000"]
    _, err = run(make("stanford"), tmp_path / "out", *options, code=2)
    assert "document_window should be in 1.." in err.splitlines()[-1] and not (tmp_path / "out").exists()


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
        (["--document-window", "0"], "document_window should be an int of at least 1, got 0"),
        (["--document-window", "9", "--compare", "pylate"], "compare: pylate reads documents at once"),
        (["--int8-mean-cosine", "2"], "int8_mean_cosine should be in -1..1"),
        (["--isa", "mmx"], "--isa"),
    ],
)
def test_misuse_says_what_is_wrong(make, tmp_path, run, options, expected):
    _, err = run(make("stanford"), tmp_path / "out", *options, code=2)
    assert expected in err.splitlines()[-1] and "reading" not in err  # before any work
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_told_before_any_work(make, tmp_path, run):
    checkpoint = make("stanford")
    for arguments, said in (
        ((checkpoint, tmp_path / "out", "--collection", "nowhere"), "nowhere: there is no such folder"),
        ((checkpoint, tmp_path / "out", "--calibrate", "nowhere"), "nowhere: there is no such folder"),
        ((tmp_path / "nowhere", tmp_path / "out"), "nowhere: there is no such checkpoint folder"),
    ):
        _, err = run(*arguments, code=1)
        assert said in err.splitlines()[-1] and "running" not in err
        assert not (tmp_path / "out").exists()


def test_source_and_target_the_other_way_round(make, tmp_path, run):
    checkpoint = make("stanford")
    _, err = run(tmp_path / "out", checkpoint, code=2)
    assert f"Did you mean latebolt export {checkpoint} {tmp_path / 'out'}?" in err.splitlines()[-1]


def test_a_head_file_that_is_missing_is_named(make, tmp_path, run):
    _, err = run(make("plain"), tmp_path / "out", "--head", tmp_path / "head.safetensors", code=1)
    assert str(tmp_path / "head.safetensors") in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "last commit, models and files are as they were.")],
)
def test_a_signal_leaves_nothing_and_speaks_of_models(make, tmp_path, number, code, said):
    command = [sys.executable, "-m", "latebolt", "export", make("stanford"), tmp_path / "out"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "running PyTorch" in line:
            assert len(list(tmp_path.iterdir())) == 2
            process.send_signal(number)
    assert process.wait() == code, lines
    assert said in lines[-1] and not any("Traceback" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_target_that_cannot_be_written_is_one_line(make, tmp_path, run):
    (tmp_path / "file").write_text("mine")
    source = make("stanford")
    for target, code in (("file/out", 1), ("file", 2)):
        _, err = run(source, tmp_path / target, code=code)
        assert str(tmp_path / target) in err.splitlines()[-1] and "Traceback" not in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_limit_on_the_size_of_files_is_one_line(make, tmp_path):
    code = (
        "import resource, sys; from latebolt import cli; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); code = cli.run(sys.argv[1:]); "
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "export", make("stanford"), tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "True False\n"  # torch's compiler takes seconds to load, and nothing needs it
    assert "larger than this process may write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_two_exports_to_one_target_leave_one_whole_model(make, tmp_path):
    command = [sys.executable, "-m", "latebolt", "export", make("stanford"), tmp_path / "out"]
    command += ["--precisions", "fp32"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    both = [subprocess.Popen(list(map(str, command)), text=True, **pipes) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    refused = next(err for err, process in zip(errors, both, strict=True) if process.returncode)
    assert "is making it" in refused or "exists already" in refused
    assert contract.read(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "out"]
