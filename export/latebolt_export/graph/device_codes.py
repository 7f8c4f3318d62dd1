"""Builds the small graphs by which `latebolt.gpu.codes` makes residual codes on a device.

Standard operators of opset 11 only: ONNX Runtime's CUDA provider has had them from its first versions on, in
later opsets some came to it late. Reductions are along the last axis, where newer versions do without cuDNN.
All that belongs to an index is an input, so the files serve every index.
`python -m latebolt_export.graph.device_codes` writes those that the engine ships.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import latebolt
from latebolt.kernels.programs.encode_residual import LENGTH_COUNTS, ROUNDS
from latebolt.kernels.shapes import CENTROID_PARTS

SHIPPED: Final = Path(latebolt.__file__).parent / "gpu" / "graphs"
_OPSET: Final = 11
_IR_VERSION: Final = 6  # of that opset
# Below it a residual has no width, and centroid and residual no area between them: as in `encode_residual`.
_LEAST: Final = np.float32(1e-6)
_FLOAT, _HALF, _INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def graphs() -> dict[str, bytes]:
    """Every graph as its file's content, by the file's name."""
    made = {
        "widen": _widen(),
        "take_half": _take(_HALF),
        "take_single": _take(_FLOAT),
        "nearest": _nearest(),
        "sums": _sums(),
        **{f"codes_{bits}": _codes(bits) for bits in (1, 2, 4)},
    }
    return {f"{name}.onnx": model.SerializeToString(deterministic=True) for name, model in made.items()}


def write(folder: Path = SHIPPED) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in graphs().items():
        (folder / name).write_bytes(content)


class _Graph:
    """A graph that grows node by node; each operator gives the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """One node, by default with a name of its own for its result."""
        name = out or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """An array as part of the graph."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def total(self, values: str, keep: bool = True) -> str:
        """Sums along the last axis, which stays with one element or goes."""
        return self.op("ReduceSum", values, axes=[-1], keepdims=int(keep))

    def dot(self, a: str, b: str) -> str:
        """[n, 1]: products of the rows of two matrices."""
        return self.total(self.op("Mul", a, b))

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[int, Sequence[int | str]]],
        outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        """The whole, checked."""
        declared = [
            [helper.make_tensor_value_info(key, *kind) for key, kind in ends.items()]
            for ends in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, name, *declared, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="latebolt",
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _widen() -> onnx.ModelProto:
    """Float16 vectors, as an encoder leaves them on the device, as float32."""
    graph = _Graph()
    graph.op("Cast", "whole", out="values", to=_FLOAT)
    shape = ["tokens", "dim"]
    return graph.model("widen", {"whole": (_HALF, shape)}, {"values": (_FLOAT, shape)})


def _take(kind: int) -> onnx.ModelProto:
    """Some rows of an encoder's output, which may be padded, as float32."""
    graph = _Graph()
    graph.op("Cast", graph.op("Gather", "whole", "places", axis=0), out="values", to=_FLOAT)
    return graph.model(
        "take",
        {"whole": (kind, ["rows", "dim"]), "places": (_INT64, ["tokens"])},
        {"values": (_FLOAT, ["tokens", "dim"])},
    )


def _nearest() -> onnx.ModelProto:
    """The centroid with the largest dot product with each vector.

    centroids [CENTROID_PARTS * k, dim], starts int64 [CENTROID_PARTS] of the rows of each part. A matrix
    product, in whose precision a device may save, chooses the best of each part; sums of float32 products
    settle between them. Equals give the first row. `cell` is for other graphs, the other two are what stores
    have, of which a caller binds one.
    """
    graph = _Graph()
    scores = graph.op("Gemm", "values", "centroids", transB=1)
    parts = graph.op("Reshape", scores, graph.constant(np.array([0, CENTROID_PARTS, -1], np.int64)))
    best = graph.op("ArgMax", parts, axis=2, keepdims=0)
    rows = graph.op("Add", best, "starts")
    candidates = graph.op("Gather", "centroids", rows, axis=0)
    apart = graph.op("Unsqueeze", "values", axes=[1])
    exact = graph.total(graph.op("Mul", candidates, apart), keep=False)
    winner = graph.op("ArgMax", exact, axis=1, keepdims=1)
    graph.op("Squeeze", graph.op("GatherElements", rows, winner, axis=1), out="cell", axes=[1])
    graph.op("Cast", "cell", out="cell16", to=TensorProto.UINT16)
    graph.op("Cast", "cell", out="cell32", to=TensorProto.UINT32)
    return graph.model(
        "nearest",
        {
            "values": (_FLOAT, ["tokens", "dim"]),
            "centroids": (_FLOAT, ["centroids", "dim"]),
            "starts": (_INT64, [CENTROID_PARTS]),
        },
        {
            "cell": (_INT64, ["tokens"]),
            "cell16": (TensorProto.UINT16, ["tokens"]),
            "cell32": (TensorProto.UINT32, ["tokens"]),
        },
    )


def _sums() -> onnx.ModelProto:
    """Sums of the vectors of each centroid, added to those before: a product with ones and zeros, whose order
    of adding is the same every time, as that of scattered additions is not."""
    graph = _Graph()
    apart = graph.op("Unsqueeze", "cell", axes=[1])
    belongs = graph.op("Cast", graph.op("Equal", apart, "numbers"), to=_FLOAT)
    graph.op("Gemm", belongs, "values", "sums_before", out="sums", transA=1)
    turned = graph.op("Transpose", belongs, perm=[1, 0])
    graph.op("Add", graph.total(turned, keep=False), "counts_before", out="counts")
    ends = {"sums": (_FLOAT, ["centroids", "dim"]), "counts": (_FLOAT, ["centroids"])}
    return graph.model(
        "sums",
        {
            "values": (_FLOAT, ["tokens", "dim"]),
            "cell": (_INT64, ["tokens"]),
            "numbers": (_INT64, ["centroids"]),
            **{f"{name}_before": end for name, end in ends.items()},
        },
        ends,
    )


def _codes(bits: int) -> onnx.ModelProto:
    """Packed codes and number of factors of vectors whose centroids are known: `kernels.reference` defines
    them as `encode_residual_reference`. `unit` is the length, not the root mean square, of a residual of
    width 1.
    """
    graph = _Graph()
    op = graph.op
    least, one, zero, two = (graph.constant(np.float32(x)) for x in (_LEAST, 1, 0, 2))
    centre = op("Gather", "centroids", "cell", axis=0)
    residual = op("Sub", "values", centre)
    scaled = op("Div", residual, "spread")
    width = op("Div", op("Sqrt", graph.dot(scaled, scaled)), "unit")

    def coded(width: str) -> tuple[str, str]:
        """Codes int32 [n, dim] of residuals over a width, and what they add to a vector of width 1."""
        code = _code(graph, op("Div", scaled, op("Max", width, least)), bits)
        return code, op("Mul", op("Gather", "weights", code, axis=0), "spread")

    for _ in range(ROUNDS):
        _, added = coded(width)
        length = graph.dot(added, added)
        fitted = op("Div", graph.dot(residual, added), length)
        width = op("Where", op("Greater", length, zero), fitted, width)
    code, added = coded(width)
    cc, cw, ww = graph.dot(centre, centre), graph.dot(centre, added), graph.dot(added, added)
    vc, vw = graph.dot("values", centre), graph.dot("values", added)

    # The direction of share * centroid + norm * added that is nearest to the vector's, at unit length.
    area = op("Sub", op("Mul", cc, ww), op("Mul", cw, cw))
    has_area = op("Greater", area, op("Mul", op("Mul", cc, ww), least))
    share = op("Div", op("Sub", op("Mul", vc, ww), op("Mul", vw, cw)), area)
    norm = op("Div", op("Sub", op("Mul", vw, cc), op("Mul", vc, cw)), area)
    share, norm = op("Where", has_area, share, one), op("Where", has_area, norm, zero)
    size = _form(graph, share, norm, cc, cw, ww, two)
    size = op("Where", op("Greater", size, zero), op("Div", one, op("Sqrt", size)), one)
    share, norm = op("Mul", share, size), op("Mul", norm, size)

    # Errors [n, N_FACTORS] of each pair of factors there is.
    shares = op("Gather", "factors", graph.constant(np.int64(0)), axis=1)
    norms = op("Gather", "factors", graph.constant(np.int64(1)), axis=1)
    a, b = op("Sub", share, shares), op("Sub", norm, norms)
    along_a = op("Add", op("Mul", share, cc), op("Mul", norm, cw))
    along_b = op("Add", op("Mul", share, cw), op("Mul", norm, ww))
    length = op("Add", op("Mul", a, along_a), op("Mul", b, along_b))
    error = _form(graph, a, b, cc, cw, ww, two)
    error = op("Add", error, op("Mul", op("Mul", length, length), graph.constant(LENGTH_COUNTS)))
    op("Cast", op("ArgMin", error, axis=1, keepdims=0), out="norm", to=TensorProto.UINT8)

    # The fields of each byte; as floats, which hold 255 exactly and are summed everywhere.
    fields = op("Reshape", code, graph.constant(np.array([0, 8 // bits, -1], np.int64)))
    fields = op("Transpose", op("Cast", fields, to=_FLOAT), perm=[0, 2, 1])
    places = graph.constant(np.array([2.0 ** (bits * i) for i in range(8 // bits)], np.float32))
    packed = graph.total(op("Mul", fields, places), keep=False)
    op("Cast", packed, out="codes", to=TensorProto.UINT8)
    return graph.model(
        f"codes_{bits}",
        {
            "values": (_FLOAT, ["tokens", "dim"]),
            "cell": (_INT64, ["tokens"]),
            "centroids": (_FLOAT, ["centroids", "dim"]),
            "spread": (_FLOAT, ["dim"]),
            "edges": (_FLOAT, [2**bits - 1]),
            "weights": (_FLOAT, [2**bits]),
            "factors": (_FLOAT, ["factors", 2]),
            "unit": (_FLOAT, [1]),
        },
        {
            "codes": (TensorProto.UINT8, ["tokens", "bytes"]),
            "norm": (TensorProto.UINT8, ["tokens"]),
        },
    )


def _code(graph: _Graph, x: str, bits: int) -> str:
    """Int32: how many of the ascending edges lie below each x; halving them, one look-up a bit."""
    code: str | None = None
    for bit in reversed(range(bits)):
        step = 1 << bit
        at = graph.constant(np.int32(step - 1))
        place = at if code is None else graph.op("Add", code, at)
        above = graph.op("Greater", x, graph.op("Gather", "edges", place, axis=0))
        gain = graph.op("Cast", above, to=TensorProto.INT32)
        gain = gain if step == 1 else graph.op("Mul", gain, graph.constant(np.int32(step)))
        code = gain if code is None else graph.op("Add", code, gain)
    assert code is not None
    return code


def _form(graph: _Graph, a: str, b: str, cc: str, cw: str, ww: str, two: str) -> str:
    """a^2 cc + b^2 ww + 2 a b cw: the square of the length of a * centroid + b * added."""
    squares = graph.op(
        "Add",
        graph.op("Mul", graph.op("Mul", a, a), cc),
        graph.op("Mul", graph.op("Mul", b, b), ww),
    )
    return graph.op("Add", squares, graph.op("Mul", graph.op("Mul", graph.op("Mul", a, b), two), cw))


if __name__ == "__main__":
    write()
