"""Runs of single texts between buffers that stay, as CUDA graphs ask for them: on the CPU, which takes the
same calls and records nothing, and with runtimes that refuse."""

from __future__ import annotations

import logging
import pickle
import threading

import numpy as np
import onnxruntime
import pytest

from as_gpus import as_gpus
from latebolt.encoder import recordings
from latebolt.encoder.model import Model
from latebolt.encoder.session import Session

QUERIES = ["a cat", "the population of Berlin and of other large cities", "zip"]
LONG = "word " * 150


@pytest.fixture
def sharing(encoder):
    made = as_gpus(encoder)
    yield made
    made.close()


def test_a_replayed_text_has_the_vectors_of_a_run(sharing, encoder, caplog):
    """Filled up, which of int8 shows; one after another, from several threads."""
    captured = sharing.with_gpu_runs(captured=True)
    expected = {text: encoder.encode_queries([text]) for text in QUERIES}
    wrong = []

    def ask():
        for text in QUERIES * 3:
            found = captured.encode_queries([text])
            same = found.lengths.tolist() == expected[text].lengths.tolist()
            if not same or (found.values * expected[text].values).sum(1).min() < 0.97:
                wrong.append(text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not caplog.records


def test_only_single_short_texts_are_replayed(sharing, monkeypatch):
    captured = sharing.with_gpu_runs(captured=True)
    asked = []
    run = recordings.Recordings.run

    def noted(self, ids, attended):
        found = run(self, ids, attended)
        asked.append(None if found is None else len(found))
        return found

    monkeypatch.setattr(recordings.Recordings, "run", noted)
    tokens = captured.tokenize(["a cat"], "document")[0]
    assert len(captured.vectors_of(tokens)) == tokens.n_kept and asked == [len(tokens.ids)]
    assert captured.encode_documents([LONG]).n_tokens > 128 and asked[1:] == [None]
    captured.encode_documents(["one", "two"])
    sharing.encode_queries(["a cat"])  # a view without the setting
    assert len(asked) == 2


def test_every_length_has_a_recording_of_its_own(sharing, monkeypatch):
    options, filled = [], []
    whole = onnxruntime.RunOptions.add_run_config_entry
    monkeypatch.setattr(
        onnxruntime.RunOptions,
        "add_run_config_entry",
        lambda self, name, value: (options.append((name, value)), whole(self, name, value))[1],
    )
    captured = sharing.with_gpu_runs(captured=True)
    numbers = [value for name, value in options if name == "gpu_graph_id"]
    assert numbers == [str(i + 1) for i in range(len(recordings.LENGTHS))]
    replay = recordings.FixedRun.replay
    monkeypatch.setattr(
        recordings.FixedRun,
        "replay",
        lambda self, feeds: (filled.append(feeds["input_ids"].shape), replay(self, feeds))[1],
    )
    for text in ("cat", "cat " * 40, "cat " * 100):
        captured.encode_documents([text])
    assert filled == [(1, 32), (1, 64), (1, 128)]


def test_a_session_that_records_asks_for_cuda_graphs(encoder, monkeypatch):
    """Of the CUDA provider; the CPU has no such option."""
    from latebolt.devices import Device
    from latebolt.gpu import finding

    asked = []

    def open_none(file, options, providers):
        asked.append(dict(providers[0][1]))
        raise RuntimeError("no device here")

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_none)
    monkeypatch.setattr(finding, "make_ready", lambda: None)
    file, graph = encoder.folder.graph_file("int8")
    for records in (True, False):
        with pytest.raises(Exception, match="no device here"):
            Session(file, graph, encoder._head, 1, Device("cuda", 2), records=records)
    assert [each.get("enable_cuda_graph") for each in asked] == ["1", None]
    assert {each["device_id"] for each in asked} == {2}


@pytest.mark.parametrize("fault", ["refused", "other vectors", "nan"])
def test_what_cannot_be_recorded_is_told_once_and_runs_as_before(
    sharing, encoder, monkeypatch, caplog, fault
):
    replay = recordings.FixedRun.replay

    def faulty(self, feeds):
        if fault == "refused":
            raise RuntimeError("This session cannot use the CUDA Graph feature\nas requested")
        given = replay(self, feeds)
        return given * (np.nan if fault == "nan" else -1)

    monkeypatch.setattr(recordings.FixedRun, "replay", faulty)
    with caplog.at_level(logging.WARNING):
        captured = sharing.with_gpu_runs(captured=True)
        for text in QUERIES:
            expected = encoder.encode_queries([text]).values
            np.testing.assert_array_equal(captured.encode_queries([text]).values, expected)
    [record] = caplog.records
    said = "cannot use the CUDA Graph feature)" if fault == "refused" else "gives other vectors than a run"
    assert said in record.getMessage() and "they run as others" in record.getMessage()


def test_nothing_is_recorded_on_the_cpu_or_where_bits_must_stay(sharing, encoder, monkeypatch):
    monkeypatch.setattr(Model, "recordings", lambda self, head: pytest.fail("recorded"))
    encoder.with_gpu_runs(captured=True).encode_queries(["a cat"])
    from dataclasses import replace

    exact = replace(sharing, _gpu_runs=replace(sharing._gpu_runs, deterministic=True))
    exact.with_gpu_runs(captured=True).encode_queries(["a cat"])


def test_recordings_end_with_their_model_and_are_made_anew_elsewhere(sharing, encoder, in_child):
    captured = sharing.with_gpu_runs(captured=True)
    assert in_child(lambda: captured.encode_queries(["a cat"]).n_tokens > 0)
    assert pickle.loads(pickle.dumps(encoder.with_gpu_runs(captured=True)))._gpu_runs.captured
    names = {thread.name for thread in threading.enumerate()}
    assert any(name.startswith("latebolt-recorded") for name in names)
    sharing.close()
    for thread in threading.enumerate():
        if thread.name.startswith("latebolt-recorded"):
            thread.join(20)
    assert not any(thread.name.startswith("latebolt-recorded") for thread in threading.enumerate())
