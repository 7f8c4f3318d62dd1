"""Runs an export from source to finished model folder.

The order of the steps lives here and nothing else: each step is a module of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from latebolt import confidence, contract
from latebolt.contract import PRECISIONS, TOKENS_IN_WINDOWS, Contract, Head, Provenance
from latebolt.encoder.text import TextPipeline
from latebolt.errors import InvalidInput
from latebolt.evaluate import read_collection
from latebolt_export.draft_folder import check_target, draft_of
from latebolt_export.graph.codes import check_embeddings, check_isa, graph_isa
from latebolt_export.graph.describe import describe
from latebolt_export.judge import rules_in_words, side_by_side, texts
from latebolt_export.judge.budgets import Budgets
from latebolt_export.judge.confidence import calibrate
from latebolt_export.requirements import (
    DISTRIBUTIONS,
    LIBRARY_DISTRIBUTIONS,
    need_export_libraries,
    need_graph_libraries,
    versions,
)
from latebolt_export.source import find, heads, siblings
from latebolt_export.source.library_encoder import LibraryPlan

if TYPE_CHECKING:
    import onnx

    from latebolt_export.graph.onnx_source import OnnxSource
    from latebolt_export.judge.parity import Reference, Report, Sample
    from latebolt_export.source.architectures import Kind
    from latebolt_export.source.checkpoint import Checkpoint
    from latebolt_export.source.heads import Output
    from latebolt_export.source.origin import Origin

Progress = Callable[[str], None]
_Origin = TypeVar("_Origin", bound="Origin")
CALIBRATION_TOKENS = 256  # at most, of one calibration text
WORK = "work"  # folder inside the draft for files of the moment


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to make of a source."""

    precisions: Sequence[str] = PRECISIONS
    dims: Sequence[int] | None = None  # None: every head at its own width
    isa: str = "auto"
    half_outputs: bool = False
    embeddings: str = "int8"
    document_window: int | None = None  # None: as the source has it
    budgets: Budgets = field(default_factory=Budgets)
    collection: Path | None = None  # BEIR folder to measure nDCG on
    calibrate: Sequence[Path] = ()  # BEIR folders to fit confidence on
    compare: str | None = None  # one of `side_by_side.LIBRARIES`, to be put beside
    compare_python: Path | None = None  # None: this Python
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_isa(self.isa)
        check_embeddings(self.embeddings)
        window = self.document_window
        if window is not None and (not isinstance(window, int) or window < 1):
            raise InvalidInput(f"document_window should be an int of at least 1, got {window!r}.")
        if self.compare is not None:
            side_by_side.check_name(self.compare)
            if window is not None:
                raise InvalidInput(
                    f"compare: {self.compare} reads documents at once, so compare without document_window."
                )
        unknown = [precision for precision in self.precisions if precision not in PRECISIONS]
        if unknown or not self.precisions:
            raise InvalidInput(
                f"precisions should be some of {', '.join(PRECISIONS)}, got {', '.join(unknown) or 'none'}."
            )
        if self.collection is not None and "fp32" not in self.precisions:
            raise InvalidInput("precisions should include fp32, which nDCG on a collection is compared with.")
        if self.collection is not None:
            read_collection(self.collection)  # a fault in it should not show after minutes of work
        for folder in self.calibrate:
            read_collection(folder)


def export_model(
    source: str | Path,
    out: str | Path,
    *,
    precisions: Sequence[str] = PRECISIONS,
    dims: Sequence[int] | None = None,
    isa: str = "auto",
    half_outputs: bool = False,
    embeddings: str = "int8",
    document_window: int | None = None,
    head: str | Path | Sequence[str | Path] | None = None,
    siblings: Sequence[str | Path] = (),
    name: str | None = None,
    revision: str | None = None,
    overwrite: bool = False,
    budgets: Budgets | None = None,
    collection: str | Path | None = None,
    calibrate: Sequence[str | Path] = (),
    compare: str | None = None,
    compare_python: str | Path | None = None,
    progress: Progress = lambda step: None,
) -> Contract:
    """Turn a checkpoint, or an ONNX graph somebody else exported, into a model folder.

    Args:
        source: a folder in the Stanford or PyLate layout, a plain encoder (which needs `head`), a hub id
            `org/name`, or an .onnx file or folder with one (which needs no torch).
        out: the new folder; complete when this returns, untouched when it raises.
        precisions: some of fp32, fp16, int8.
        dims: widths of the outputs; None takes every head at its own width. A width without a head of its
            own is the first rows of a wider one, and the contract says so.
        isa: instruction set of the int8 graph: avx512_vnni, avx2, arm64, or auto for one that gives the
            same vectors on all.
        half_outputs: the fp16 graph gives float16 vectors instead of float32.
        embeddings: the word table of the int8 graph, "int8" or "int4": 4 bits a weight in blocks of 32, for
            vocabularies that outweigh the encoder and are a multiple of 32 wide.
        document_window: documents of more tokens of their own are read in windows of at most so many, each
            encoded by itself, and have the vectors of all. Nothing of them is cut off then, up to 8,192
            tokens; None reads them at once, as the source does.
        head: safetensors file(s) with `linear.weight` [dim, hidden] and, if the head has them, `linear.bias`
            and `residual.weight`, instead of the checkpoint's heads. Of a Dense module's file, the
            config.json beside it is read too.
        siblings: checkpoints whose heads belong to the same encoder (folders or hub ids). One whose
            encoder turns out to differ goes to a folder of its own, `<out>-<dim>`.
        name: what the model calls itself; None takes the source's name.
        revision: commit, tag or branch of a hub id.
        overwrite: replace a model folder that is at `out`.
        budgets: how far each precision may stray from the original.
        collection: folder in BEIR layout; nDCG@10 of every graph is measured on it and held to the budget.
        calibrate: folders in BEIR layout; what makes confidence of scores is fitted on their questions
            (`latebolt_export.calibrate`). Without any, hits have no confidence until somebody fits it.
        compare: sentence-transformers, pylate or colbert-ai: the library that the checkpoint was made for
            encodes texts too, and the report puts tokens and vectors side by side.
        compare_python: the Python that has the library; None is this one.
        progress: called with a few words at each step.
    Returns:
        the contract written to latebolt.json.
    Raises:
        ModelError: the source's settings cannot be read or contradict themselves.
        ExportError: the source cannot be used, `out` exists, or a graph is past its budget.
        InvalidInput: an unknown precision, isa or kind of embeddings.
        RuntimeUnavailable: the libraries of the `export` extra are missing.
        StorageFull: the disk, or its quota, ran full.
        LateboltError: another process is making `out`, or the system refused to write it.
    """
    options = ExportOptions(
        precisions=tuple(precisions),
        dims=None if dims is None else tuple(dims),
        isa=isa,
        half_outputs=half_outputs,
        embeddings=embeddings,
        document_window=document_window,
        budgets=budgets or Budgets(),
        collection=None if collection is None else Path(collection),
        calibrate=tuple(map(Path, calibrate)),
        compare=compare,
        compare_python=None if compare_python is None else Path(compare_python),
        overwrite=overwrite,
    )
    return _export(_Request(source, head, tuple(siblings), revision), Path(out), name, options, progress)


@dataclass(frozen=True)
class _Request:
    source: str | Path
    head: str | Path | Sequence[str | Path] | None
    siblings: tuple[str | Path, ...]
    revision: str | None


def _export(
    request: _Request, out: Path, name: str | None, options: ExportOptions, progress: Progress
) -> Contract:
    check_target(out, options.overwrite, progress)
    if options.compare is not None and request.head is not None:
        raise InvalidInput("compare: the library knows nothing of a head file. Leave one of the two out.")
    need_graph_libraries()
    place = find.locate(request.source, request.revision, progress)
    if (file := find.graph_file(place.path)) is not None:
        if request.head is not None or request.siblings:
            raise InvalidInput(
                f"{place.path}: an ONNX graph has its head inside, so none can be added to it."
            )
        if options.compare is not None:
            raise InvalidInput(f"{place.path}: is an ONNX graph, which {options.compare} does not read.")
        from latebolt_export.graph import onnx_source

        return build_from_graph(onnx_source.load(place, file), out, name or place.name, options, progress)
    need_export_libraries()
    progress("reading the checkpoint")
    files = [request.head] if isinstance(request.head, str | Path) else request.head
    found = find.checkpoint(place, None if files is None else [Path(file) for file in files])
    others = []
    for other in request.siblings:
        others.append(find.checkpoint(find.locate(other, None, progress), None))
    joined, apart = siblings.join(found, others)
    for sibling, why in apart:
        progress(why)
        dim = sibling.projections[0].dim
        build(sibling, out.with_name(f"{out.name}-{dim}"), sibling.name, options, progress)
    return build(joined, out, name or found.name, options, progress)


def build(
    checkpoint: Checkpoint, out: Path, name: str, options: ExportOptions, progress: Progress
) -> Contract:
    """Make the model folder of a checkpoint, whose `state` is used up; see `export_model`."""
    from latebolt_export import memory
    from latebolt_export.graph import fuse
    from latebolt_export.judge import parity
    from latebolt_export.torch import module, trace

    check_target(out, options.overwrite, progress)
    checkpoint = _windowed(checkpoint, options.document_window)
    outputs = heads.choose(checkpoint.projections, options.dims)
    with memory.settled(), draft_of(out, options.overwrite) as draft:
        folder = _work_folder(draft)
        digest = checkpoint.weights_sha256()
        embedder = module.build(checkpoint, outputs)
        checkpoint.state.clear()  # a checkpoint in bfloat16 need not stay mapped beside its float32 twin
        progress("tracing and fusing")
        plan, tools = checkpoint.plan, DISTRIBUTIONS
        if isinstance(plan, LibraryPlan):
            from latebolt_export.torch import library

            tools = LIBRARY_DISTRIBUTIONS
            traced = library.trace(embedder, folder)
            fused = fuse.fuse(traced, attention=True, heads=plan.heads, hidden=plan.hidden)
        else:
            fused = fuse.fuse(trace.trace(embedder, folder))
            fuse.check_counts(fused, fuse.expected_counts(plan))
        progress("running PyTorch")
        truth = parity.reference(embedder.run, _texts(checkpoint, draft))
        del embedder
        memory.give_back()
        start = _Start(fused, plan.kinds, outputs, truth, "PyTorch", digest, tools)
        return _finish(checkpoint, start, draft, name, options, progress)


def build_from_graph(
    given: OnnxSource, out: Path, name: str, options: ExportOptions, progress: Progress
) -> Contract:
    """Make the model folder of somebody else's float32 ONNX graph; loads no torch."""
    from latebolt_export.graph import fuse, onnx_source, tensors
    from latebolt_export.judge import parity

    check_target(out, options.overwrite, progress)
    given = _windowed(given, options.document_window)
    with draft_of(out, options.overwrite) as draft:
        folder = _work_folder(draft)
        progress("reading the graph")
        digest = onnx_source.weights_sha256(given)
        model, outputs = onnx_source.read(given, options.dims, folder)
        progress("running it as it is")
        run = parity.runner(tensors.open_session(model, folder))
        truth = parity.reference(run, _texts(given, draft))
        del run  # its session holds all weights
        progress("fusing")
        fused = fuse.fuse(model, attention=True, heads=given.heads, hidden=given.hidden)
        start = _Start(fused, (), outputs, truth, "the original graph", digest)
        return _finish(given, start, draft, name, options, progress)


@dataclass(frozen=True, eq=False)
class _Start:
    """A fused float32 graph, and what is known of it."""

    fused: onnx.ModelProto
    kinds: Sequence[Kind]
    outputs: Sequence[Output]
    truth: Reference
    against: str
    weights_sha256: str
    tools: Sequence[str] = DISTRIBUTIONS  # the libraries that shaped it


def _finish(
    origin: Origin, start: _Start, draft: Path, name: str, options: ExportOptions, progress: Progress
) -> Contract:
    """Make, measure and describe every graph in the draft folder."""
    from latebolt_export import variants
    from latebolt_export.graph import onnx_edit
    from latebolt_export.judge import parity, quality, report, verdict

    for line in origin.notes:
        progress(f"note: {line}")
    longest = min(CALIBRATION_TOKENS, origin.max_tokens)
    rows = [int(table.dims[0]) for table in onnx_edit.word_tables(start.fused)]
    work = variants.Work(
        draft=draft,
        folder=draft / WORK,
        kinds=start.kinds,
        calibration=parity.encode(origin.tokenizer_json, texts.calibration_texts(), longest),
        truth=start.truth,
        budgets=options.budgets,
        isa=options.isa,
        half_outputs=options.half_outputs,
        embeddings=options.embeddings,
        progress=progress,
    )
    made = variants.make(start.fused, options.precisions, work)
    shutil.rmtree(draft / WORK)
    integer, sample = made.get("int8"), start.truth.sample
    described = _contract(origin, start, name)
    found = parity.Report(
        name=name,
        against=start.against,
        texts=len(sample.ids),
        tokens=sum(map(len, sample.ids)),
        longest=sample.longest,
        precisions={precision: each.parity for precision, each in made.items()},
        worst_matmuls=list(integer.worst) if integer else [],
        float_matmuls=list(integer.left_float) if integer else [],
        word_table=integer.word_table if integer else "",
        as_runtime=sample.as_runtime,
        masked=sample.masked,
        rules=rules_in_words.rules(described, origin.tokenizer_json, min(rows, default=None)),
        notes=list(origin.notes),
        heads={str(output.dim): output.source for output in start.outputs},
    )
    for file, content in origin.files.items():
        (draft / file).write_bytes(content)
    described = msgspec.structs.replace(
        described,
        graphs={
            precision: describe(each.files, draft, graph_isa(options.isa) if precision == "int8" else "")
            for precision, each in made.items()
        },
        gpu_graphs={
            form: describe(files, draft, "") for each in made.values() for form, files in each.forms.items()
        },
    )
    if described.gpu_graphs:
        described = msgspec.structs.replace(described, format_version=contract.FORMAT_VERSION)
    contract.write(described, draft)
    if options.collection is not None:
        progress(f"measuring nDCG on {options.collection.name}")
        found = quality.with_ndcg(found, draft, options.collection)
    if options.calibrate:
        fitted = calibrate(
            draft, [read_collection(folder) for folder in options.calibrate], progress=progress
        )
        (draft / confidence.FILE_NAME).write_bytes(confidence.content(fitted))
    if options.compare is not None:
        found = _beside(found, draft, options, origin.place, progress)
    verdict.hold_to(options.budgets, found)
    report.write(found, draft)
    described = msgspec.structs.replace(described, parity=report.summary(found))
    contract.write(described, draft)
    return described


def _beside(
    found: Report, draft: Path, options: ExportOptions, checkpoint: str, progress: Progress
) -> Report:
    assert options.compare is not None
    progress(f"asking {options.compare}")
    library = side_by_side.Library(options.compare, checkpoint, options.compare_python)
    beside = side_by_side.compare(draft, library)
    if not beside.agrees:
        progress(f"note: {beside.library} gives other vectors; see the report")
    return msgspec.structs.replace(found, beside=beside)


def _windowed(origin: _Origin, window: int | None) -> _Origin:
    """The source with documents read in windows.

    Raises:
        InvalidInput: the model cannot read so many tokens at once, or documents are filled up.
    """
    if window is None:
        return origin
    rules = msgspec.structs.replace(
        origin.document, window=window, max_tokens=max(origin.document.max_tokens, TOKENS_IN_WINDOWS)
    )
    room = origin.max_tokens - contract.added_tokens(origin.frame, rules)
    if window > room:
        raise InvalidInput(f"document_window should be in 1..{room} for this model, got {window!r}.")
    if rules.expansion is not None:
        raise InvalidInput("document_window: this model fills its documents up, which windows do not.")
    return replace(origin, document=rules)


def _contract(origin: Origin, start: _Start, name: str) -> Contract:
    return Contract(
        name=name,
        architecture=origin.architecture,
        hidden_size=origin.hidden,
        max_tokens=origin.max_tokens,
        heads=tuple(Head(output.dim, output.name, output.source) for output in start.outputs),
        frame=origin.frame,
        query=origin.query,
        document=origin.document,
        graphs={},
        source=Provenance(
            name=origin.name,
            revision=origin.revision,
            licence=origin.licence,
            weights_sha256=start.weights_sha256,
            tools=versions(start.tools),
        ),
        lowercase=origin.lowercase,
        notes=origin.notes,
    )


def _texts(origin: Origin, draft: Path) -> Sample:
    """The texts to compare on; their tokenizer is the model folder's from here on."""
    from latebolt_export.judge import parity

    file = draft / "tokenizer.json"
    file.write_text(origin.tokenizer_json, encoding="utf-8")
    rules = Contract(
        name=origin.name,
        architecture=origin.architecture,
        hidden_size=origin.hidden,
        max_tokens=origin.max_tokens,
        heads=(),
        frame=origin.frame,
        query=origin.query,
        document=origin.document,
        graphs={},
        source=Provenance(origin.name),
        lowercase=origin.lowercase,
    )
    return parity.sample(origin.tokenizer_json, TextPipeline(file, rules))


def _work_folder(draft: Path) -> Path:
    (draft / "onnx").mkdir()
    folder = draft / WORK
    folder.mkdir()
    return folder
