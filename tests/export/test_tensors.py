"""Large constants live in a file: written, mapped, run and moved without changing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from latebolt_export.graph import tensors
from latebolt_export.graph.onnx_edit import Wiring


@pytest.fixture
def weight():
    return np.random.default_rng(1).standard_normal((700, 400)).astype(np.float32)  # 1.1 MB


@pytest.fixture
def model(tmp_path, weight):
    """y = x @ weight + bias, the weight outside."""
    file = tensors.TensorFile(tmp_path / "weights.bin")
    constants = [file.add("small", np.ones(3, np.float32)), file.add("weight", weight)]
    constants.append(file.add("bias", weight[0]))
    file.close()
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["p"]), helper.make_node("Add", ["p", "bias"], ["y"])],
        "small",
        [rows("x", TensorProto.FLOAT, ["n", 700])],
        [rows("y", TensorProto.FLOAT, ["n", 400])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_only_large_constants_go_outside_and_are_mapped(model, weight):
    small, large, bias = model.graph.initializer
    assert [tensors.is_outside(tensor) for tensor in (small, large, bias)] == [False, True, False]
    found = tensors.value(large)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, weight)
    assert model.ByteSize() < 10_000


def test_a_constant_in_pieces_equals_the_whole(tmp_path, weight):
    file = tensors.TensorFile(tmp_path / "pieces.bin")
    made = file.add_pieces("w", weight.shape, iter([weight[:300], weight[300:]]))
    few = file.add_pieces("few", (4, 400), [weight[:1], weight[1:4]])
    file.close()
    np.testing.assert_array_equal(tensors.value(made), weight)
    np.testing.assert_array_equal(tensors.value(few), weight[:4])


def test_stretches_of_a_constant_are_the_whole(model, weight, monkeypatch):
    monkeypatch.setattr(tensors, "STRETCH", 10_000)
    parts = list(tensors.pieces(model.graph.initializer[1]))
    assert len(parts) > 100
    np.testing.assert_array_equal(np.concatenate(parts), weight)
    assert [part.tolist() for part in tensors.pieces(model.graph.initializer[0])] == [[1, 1, 1]]


def test_a_scalar_stays_a_scalar():
    assert list(tensors.declare("one", np.array(True)).dims) == []


@pytest.mark.parametrize("most_inline", [1, 1 << 30])
def test_saved_graph_runs_and_loads_from_one_file_or_two(model, weight, tmp_path, monkeypatch, most_inline):
    monkeypatch.setattr(tensors, "MOST_INLINE", most_inline)
    out = tmp_path / "out"
    out.mkdir()
    files = tensors.save(model, out / "model.onnx")
    assert [file.name for file in files] == ["model.onnx", "model.onnx_data"][: len(files)]
    assert len(files) == (2 if most_inline == 1 else 1)
    assert set(out.iterdir()) == set(files)
    (tmp_path / "weights.bin").unlink()  # the saved graph stands on its own
    x = np.ones((2, 700), np.float32)
    expected = x @ weight + weight[0]
    session = onnxruntime.InferenceSession(files[0], providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)
    again = tensors.load(files[0], tmp_path / "copy.bin")
    constants = {tensor.name: tensors.value(tensor) for tensor in again.graph.initializer}
    np.testing.assert_array_equal(constants["weight"], weight)
    onnx.checker.check_model(str(files[0]))


def test_session_over_a_working_graph_leaves_nothing_behind(model, weight, tmp_path):
    before = set(tmp_path.iterdir())
    session = tensors.open_session(model, tmp_path)
    x = np.ones((1, 700), np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight + weight[0], rtol=1e-4, atol=1e-4)
    assert set(tmp_path.iterdir()) == before


def test_a_replaced_constant_lies_in_the_file_and_can_be_read_at_once(weight, tmp_path):
    model = onnx.ModelProto()
    model.graph.initializer.append(tensors.declare("w", weight))
    with tensors.TensorFile(tmp_path / "replaced.bin") as file:
        wiring = Wiring(model, file)
        for factor in (2, 3):
            wiring.replace("w", wiring.value("w") * factor)
        assert tensors.is_outside(model.graph.initializer[0])
        np.testing.assert_array_equal(wiring.value("w"), weight * 6)


WRITER = """
import sys, tempfile
from pathlib import Path
import subprocess
import sys

import numpy as np
from onnx import TensorProto, helper
from latebolt_export.graph import tensors

def peak():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3

folder = Path(sys.argv[1])
with tensors.TensorFile(folder / "weights.bin") as file:
    rows = [np.full((2048, 2048), i, np.float32) for i in range(2)]
    constants = [file.add(f"w{i}", rows[i % 2]) for i in range(8)]  # 134 MB
graph = helper.make_graph([helper.make_node("Sum", [c.name for c in constants], ["y"])], "g", [],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants)
model = helper.make_model(graph)
before = peak()
[path] = tensors.save(model, folder / "model.onnx")
print(path.stat().st_size / 1e6, peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux' own peak of a process")
def test_writing_a_graph_takes_no_second_copy_of_it(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, more = map(float, done.stdout.split())
    assert size > 130
    assert more < size / 2, "pages that are mapped while they are written count, whole copies would too"
    made = onnx.load(tmp_path / "model.onnx")
    for i, tensor in enumerate(made.graph.initializer):
        assert np.all(onnx.numpy_helper.to_array(tensor) == i % 2)
