"""Tells the ONNX files of a folder apart by their names: which precision each is, and what belongs to it.

Decides on names alone, so that a listing of the model hub will do as well as a folder.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from latebolt.contract import Graph, Part

# The hub's names: model.onnx, model_fp16.onnx, model_int8.onnx, model_quantized.onnx, model_uint8.onnx,
# model_qint8_avx512_vnni.onnx. 4-bit forms and the -O1 ... -O4 rewritings are none of our precisions.
_UNUSABLE = re.compile(r"q4|bnb4|_O[1-4]\b", re.IGNORECASE)
_WORDS = (
    ("fp16", re.compile(r"fp16|float16", re.IGNORECASE)),
    ("int8", re.compile(r"int8|quant", re.IGNORECASE)),
)
_ISAS = ("avx512_vnni", "avx512", "avx2", "arm64")
_BEST_WHOLE = ("onnx/model.onnx", "model.onnx")


def precision(name: str) -> str | None:
    """ "fp32", "fp16" or "int8" by a file's name; None for a graph that is neither."""
    stem = PurePosixPath(name).stem
    if _UNUSABLE.search(stem):
        return None
    return next((precision for precision, word in _WORDS if word.search(stem)), "fp32")


def whole(names: Iterable[str]) -> list[str]:
    """The float32 graph of a listing, or all that may be it where none has the usual name.

    Args:
        names: paths relative to the folder, with "/".
    """
    found = sorted(name for name in names if _is_graph(name) and precision(name) == "fp32")
    usual = [name for name in _BEST_WHOLE if name in found]
    return usual[:1] or found


def by_precision(names: Iterable[str], machine: str = platform.machine()) -> dict[str, Graph]:
    """The graphs a runtime may choose from, by precision; sizes and digests are not recorded.

    Args:
        names: paths relative to the folder, with "/".
        machine: which of several int8 graphs is taken depends on it. Of those for x86 it is the one for AVX2:
            its 7-bit weights cannot overflow a 16-bit sum on any of these CPUs.
    """
    names = sorted(names)
    float32 = whole(names)
    chosen = {"fp32": float32[0]} if len(float32) == 1 else {}
    order = ("", "arm64") if machine.lower() in ("arm64", "aarch64") else ("", "avx2", *_ISAS)

    def rank(name: str) -> tuple[int, bool, str]:
        mark = isa(name)
        return order.index(mark) if mark in order else len(order), "/" not in name, name

    for kind in ("fp16", "int8"):
        found = [name for name in names if _is_graph(name) and precision(name) == kind]
        if found:
            chosen[kind] = min(found, key=rank)
    return {
        kind: Graph(
            file=name,
            bytes=0,
            sha256="",
            isa=isa(name) if kind == "int8" else "",
            data=tuple(Part(other, 0, "") for other in data_names(name, names)),
            normalised=False,
        )
        for kind, name in chosen.items()
    }


def isa(name: str) -> str:
    """The instruction set in a graph's name; "" for none."""
    return next((isa for isa in _ISAS if isa in name.lower()), "")


def data_names(name: str, names: Iterable[str]) -> list[str]:
    """The files of a listing that hold a graph's large weights: model.onnx_data, model.onnx.data."""
    return sorted(other for other in names if other.startswith((f"{name}_data", f"{name}.data")))


def listing(folder: Path) -> list[str]:
    """Paths of the files in a folder and in its `onnx` folder, relative to it, with "/"."""
    files: Sequence[Path] = [*folder.glob("*"), *folder.glob("onnx/*")]
    return sorted(file.relative_to(folder).as_posix() for file in files if file.is_file())


def _is_graph(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".onnx" and path.parent.as_posix() in (".", "onnx")
