"""Makes the graph of each precision from one fused float32 graph, and measures it as soon as it is written.

One precision at a time, with what it needs on disk rather than in memory: of a model of 560 M parameters two
copies would not fit beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from latebolt_export import memory
from latebolt_export.graph import cpu_graph, gpu_graphs, half, quantize, smooth, tensors
from latebolt_export.judge import parity, verdict
from latebolt_export.judge.budgets import Budgets
from latebolt_export.source.architectures import Kind

FILES = {"fp32": "onnx/model.onnx", "fp16": "onnx/model_fp16.onnx", "int8": "onnx/model_int8.onnx"}
# The GPU's graph has no memory-saving forms, so on a CPU it is compared on texts of at most so many tokens.
LONGEST_HALF = 1025
# The inputs whose MatMuls are left float32, worst first, until int8 keeps its budget.
LEFT_FLOAT = (0, 2, 4, 8, 16)


@dataclass(frozen=True)
class Work:
    """What making graphs needs beside the graph."""

    draft: Path  # the model folder to be
    folder: Path  # for files of the moment
    kinds: Sequence[Kind]  # of each attention, in graph order
    calibration: Sequence[np.ndarray]  # int64 [tokens] each
    truth: parity.Reference
    budgets: Budgets
    isa: str
    half_outputs: bool
    embeddings: str
    progress: Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One graph on disk. `worst`, `left_float` and `word_table`: see `parity.Report`."""

    files: Sequence[Path]
    parity: parity.GraphParity
    worst: Sequence[str] = ()
    left_float: Sequence[str] = ()
    word_table: str = ""
    forms: Mapping[str, Sequence[Path]] = field(
        default_factory=dict
    )  # files of graphs for GPUs, see `gpu_graphs`


def make(fused: onnx.ModelProto, precisions: Collection[str], work: Work) -> dict[str, Variant]:
    """Write and measure the graph of each precision; the fused graph is used up."""
    made = {}
    if "fp16" in precisions:
        work.progress("converting to fp16")
        halved = half.to_half(fused, work.folder / "half.bin", work.half_outputs)
        files, forms = _write_half(halved, work)
        (work.folder / "half.bin").unlink()
        made["fp16"] = replace(_measure(files, "fp16", work, LONGEST_HALF), forms=forms)
    cpu_graph.split_fused(fused)
    if "int8" in precisions:
        quantize.check_word_table(fused, work.embeddings)
    if "fp32" in precisions:
        work.progress("writing fp32")
        whole = tensors.twin(fused)
        cpu_graph.long_texts(whole, work.kinds)
        made["fp32"] = _measure(_write(whole, "fp32", work), "fp32", work)
    if "int8" in precisions:
        made["int8"] = _int8(fused, work)
    return {precision: made[precision] for precision in FILES if precision in made}


def _write_half(halved: onnx.ModelProto, work: Work) -> tuple[list[Path], dict[str, list[Path]]]:
    """The files of the float16 graph, and of the graphs for GPUs that are made of it."""
    main = work.draft / FILES["fp16"]
    graphs, notes = gpu_graphs.make(halved)
    for line in notes:
        work.progress(f"note: {line}")
    paths = {form: main.with_name(f"{main.stem}_{form}.onnx") for form in graphs}
    files, *others = tensors.save_together(
        {main: halved} | {paths[form]: model for form, model in graphs.items()}
    )
    return files, dict(zip(paths, others, strict=True))


def _int8(model: onnx.ModelProto, work: Work) -> Variant:
    work.progress("calibrating for int8")
    keep = quantize.head_matmuls(model)
    scales = smooth.find_scales(model, work.calibration, work.folder, keep, work.isa)
    memory.give_back()
    keep |= smooth.fold(model, scales, work.folder / "smoothed.bin")
    by_error = sorted(scales.values(), key=lambda scale: -scale.error)
    worst = [f"{scale.matmuls[0]} ({scale.error:.1e})" for scale in by_error[:6]]
    for count in LEFT_FLOAT:
        left = [name for scale in by_error[:count] for name in scale.matmuls]
        work.progress("quantising to int8" + (f", {len(left)} MatMuls left float32" if left else ""))
        files, word_table = _write_int8(model, keep | set(left), work)
        made = _measure(files, "int8", work)
        # A graph that half of float32 does not save is past saving; `verdict` then says why.
        if verdict.keeps_int8(work.budgets, made.parity) or count > len(by_error) // 2:
            break
    return Variant(made.files, made.parity, worst, left, word_table)


def _write_int8(model: onnx.ModelProto, keep: Collection[str], work: Work) -> tuple[list[Path], str]:
    """The files and how they keep the word table; nothing stays in memory while the files are measured."""
    integer = tensors.twin(model)
    word_table = quantize.quantize(integer, keep, work.isa, work.embeddings)
    memory.give_back()
    cpu_graph.long_texts(integer, work.kinds)
    return _write(integer, "int8", work), word_table


def _write(model: onnx.ModelProto, precision: str, work: Work) -> list[Path]:
    return tensors.save(model, work.draft / FILES[precision])


def _measure(files: Sequence[Path], precision: str, work: Work, longest: int | None = None) -> Variant:
    work.progress(f"comparing {precision}")
    n_bytes = sum(file.stat().st_size for file in files)
    made = Variant(files, parity.measure(files[0], n_bytes, work.truth, longest))
    memory.give_back()
    return made
