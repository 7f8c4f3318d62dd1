"""Runs an export from checkpoint to finished model folder.

The order of the steps lives here and nothing else: each step is a module of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from latebolt import contract
from latebolt.contract import PRECISIONS, Contract, Graph, Head, Provenance
from latebolt.errors import InvalidInput
from latebolt_export import checkpoint as checkpoints
from latebolt_export import heads, texts
from latebolt_export.budgets import Budgets
from latebolt_export.draft_folder import check_target, draft_of
from latebolt_export.requirements import need_export_libraries, versions
from latebolt_export.weights import state_sha256

if TYPE_CHECKING:
    import onnx

    from latebolt_export.checkpoint import Checkpoint
    from latebolt_export.module import TokenEmbedder

Progress = Callable[[str], None]
FILES = {"fp32": "onnx/model.onnx", "fp16": "onnx/model_fp16.onnx", "int8": "onnx/model_int8.onnx"}
CALIBRATION_TOKENS = 256  # at most, of one calibration text
REPORTED_MATMULS = 6


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to make of a checkpoint."""

    precisions: Sequence[str] = PRECISIONS
    dims: Sequence[int] | None = None  # None: every head at its own width
    budgets: Budgets = field(default_factory=Budgets)
    overwrite: bool = False

    def __post_init__(self) -> None:
        unknown = [precision for precision in self.precisions if precision not in PRECISIONS]
        if unknown or not self.precisions:
            raise InvalidInput(
                f"precisions should be some of {', '.join(PRECISIONS)}, got {', '.join(unknown) or 'none'}."
            )


def export_model(
    source: str | Path,
    out: str | Path,
    *,
    precisions: Sequence[str] = PRECISIONS,
    dims: Sequence[int] | None = None,
    head: str | Path | Sequence[str | Path] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    budgets: Budgets | None = None,
    progress: Progress = lambda step: None,
) -> Contract:
    """Turn a checkpoint folder into a model folder.

    Args:
        source: folder in the Stanford or PyLate layout, or a plain encoder (which needs `head`).
        out: the new folder; complete when this returns, untouched when it raises.
        precisions: some of fp32, fp16, int8.
        dims: widths of the outputs; None takes every head at its own width. A width without a head of its
            own is the first rows of a wider one, and the contract says so.
        head: safetensors file(s) with `linear.weight` [dim, hidden], instead of the checkpoint's heads.
        name: what the model calls itself; None takes the source folder's name.
        overwrite: replace a model folder that is at `out`.
        budgets: how far each precision may stray from PyTorch.
        progress: called with a few words at each step.
    Returns:
        the contract written to latebolt.json.
    Raises:
        ExportError: the checkpoint cannot be used, `out` exists, or a graph is past its budget.
        InvalidInput: an unknown precision.
        RuntimeUnavailable: the libraries of the `export` extra are missing.
        StorageFull: the disk ran full.
    """
    options = ExportOptions(
        precisions=tuple(precisions),
        dims=None if dims is None else tuple(dims),
        budgets=budgets or Budgets(),
        overwrite=overwrite,
    )
    check_target(Path(out), overwrite)
    need_export_libraries()
    progress("reading the checkpoint")
    files = [head] if isinstance(head, str | Path) else head
    found = checkpoints.load(Path(source), None if files is None else [Path(file) for file in files])
    return build(found, Path(out), name or found.name, options, progress)


def build(
    checkpoint: Checkpoint, out: Path, name: str, options: ExportOptions, progress: Progress
) -> Contract:
    """Make the model folder of a checkpoint that was read already; see `export_model`."""
    from latebolt_export import module, parity, report

    check_target(out, options.overwrite)
    outputs = heads.choose(checkpoint.projections, options.dims)
    embedder = module.build(checkpoint, outputs)
    with draft_of(out) as draft:
        paths, worst = _write_graphs(checkpoint, embedder, draft, options.precisions, progress)
        progress("comparing with PyTorch")
        longest = min(parity.LONGEST, checkpoint.max_tokens)
        ids = parity.encode(checkpoint.tokenizer_json, texts.parity_texts(parity.TEXTS), longest)
        truth = parity.reference(embedder, ids)
        found = parity.Report(
            name=name,
            texts=len(ids),
            tokens=sum(map(len, ids)),
            precisions={precision: parity.measure(path, truth) for precision, path in paths.items()},
            worst_matmuls=worst,
        )
        parity.hold_to(options.budgets, found)
        report.write(found, draft)
        (draft / "tokenizer.json").write_text(checkpoint.tokenizer_json, encoding="utf-8")
        for file, content in checkpoint.files.items():
            (draft / file).write_bytes(content)
        made = Contract(
            name=name,
            architecture=checkpoint.architecture,
            hidden_size=int(checkpoint.config["hidden_size"]),
            max_tokens=checkpoint.max_tokens,
            heads=tuple(Head(output.dim, output.name, output.source) for output in outputs),
            frame=checkpoint.frame,
            query=checkpoint.query,
            document=checkpoint.document,
            graphs={precision: _graph(path, draft) for precision, path in paths.items()},
            source=Provenance(
                name=checkpoint.name,
                revision=checkpoint.revision,
                licence=checkpoint.licence,
                weights_sha256=state_sha256(embedder.state_dict()),
                tools=versions(),
            ),
            parity=report.summary(found),
        )
        contract.write(made, draft)
    progress(f"wrote {out}")
    return made


def _write_graphs(
    checkpoint: Checkpoint,
    embedder: TokenEmbedder,
    draft: Path,
    precisions: Sequence[str],
    progress: Progress,
) -> tuple[dict[str, Path], list[str]]:
    """Write the graph of each precision; returns their paths and int8's worst MatMuls."""
    import onnx

    from latebolt_export import cpu_graph, fuse, graph, half, parity, quantize, smooth

    progress("tracing and fusing")
    traced = draft / "traced.onnx"
    graph.trace(embedder, traced)
    fused = fuse.fuse(str(traced), embedder.config)
    traced.unlink()
    (draft / "onnx").mkdir()
    worst: list[str] = []
    made: dict[str, onnx.ModelProto] = {}
    if "fp16" in precisions:
        progress("converting to fp16")
        made["fp16"] = half.to_half(fused)
    cpu_graph.split_fused(fused)
    if "int8" in precisions:
        progress("calibrating and quantising to int8")
        keep = quantize.head_matmuls(fused)
        smoothed = onnx.ModelProto()
        smoothed.CopyFrom(fused)
        longest = min(CALIBRATION_TOKENS, checkpoint.max_tokens)
        ids = parity.encode(checkpoint.tokenizer_json, texts.calibration_texts(), longest)
        scales = smooth.find_scales(smoothed, ids, keep)
        sides = smooth.fold(smoothed, scales)
        made["int8"] = quantize.quantize(smoothed, keep | sides)
        cpu_graph.free_of_mask(made["int8"])
        by_error = sorted(scales.values(), key=lambda scale: -scale.error)
        worst = [f"{scale.matmuls[0]} ({scale.error:.1e})" for scale in by_error[:REPORTED_MATMULS]]
    if "fp32" in precisions:
        cpu_graph.free_of_mask(fused)
        made["fp32"] = fused
    paths = {}
    for precision in PRECISIONS:
        if precision in made:
            paths[precision] = draft / FILES[precision]
            onnx.save(made[precision], paths[precision])
    return paths, worst


def _graph(path: Path, folder: Path) -> Graph:
    content = path.read_bytes()
    return Graph(
        file=path.relative_to(folder).as_posix(),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
