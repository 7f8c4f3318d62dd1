"""`latebolt doctor`: what will actually run on this machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any, Final

import click

from latebolt.cli.common import json_option, resident_mb
from latebolt.cli.doctor_gpu import examine_gpu
from latebolt.cli.terminal import print_json, say, styled

# What JSON has by another name: whoever wants no GPU has no problem.
_SHOWN: Final = {"problems": "why not"}


@click.command("doctor")
@click.option("--warm", is_flag=True, help="Compile and cache every kernel now.")
@click.option("--model", default="starter", show_default=True, help="Model to load.")
@click.option("--device", default="cpu", show_default=True, help="Where to load it: cpu, cuda, cuda:N, auto.")
@json_option
def doctor_command(warm: bool, model: str, device: str, as_json: bool) -> int:
    """Print machine, instruction set, kernels, ONNX Runtime, GPU, threads, model and caches.

    Exit code 1 where the kernels or the model cannot be used; with --device cuda, where it cannot there.

    \b
    latebolt doctor
    latebolt doctor --warm --json --device auto
    """
    report = examine(model, warm, device)
    if as_json:
        print_json(report)
    else:
        for section, values in report.items():
            say(styled(section, bold=True))
            for name, value in values.items():
                for line in value if isinstance(value, list) else [value]:
                    say(f"  {_SHOWN.get(name, name):<21} {line}")
    return 1 if "problem" in {**report["kernels"], **report["model"]} else 0


def examine(model: str, warm: bool, device: str = "cpu") -> dict[str, dict[str, Any]]:
    """Sections of name -> value. A part that fails says why instead of stopping the rest."""
    from latebolt import __version__
    from latebolt.cpus import available_cpus
    from latebolt.errors import LateboltError

    report: dict[str, dict[str, Any]] = {
        "machine": {
            "latebolt": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cpus of this process": available_cpus(),
        },
        "kernels": {},
    }
    try:
        _kernels(report["kernels"], warm)
    except LateboltError as error:
        report["kernels"]["problem"] = str(error)
    report["onnxruntime"] = _onnxruntime()
    report["gpu"] = examine_gpu(device)
    report["model"] = _model(model, device)
    report["process"] = {
        "numba imported": "numba" in sys.modules,
        "torch imported": "torch" in sys.modules,
        "peak memory": f"{resident_mb():.0f} MB",
    }
    return report


def _kernels(section: dict[str, Any], warm: bool) -> None:
    from latebolt import caches
    from latebolt.kernels import compiled, isa, names, native, targets
    from latebolt.kernels.ahead import loaded

    active, library = isa.active(), loaded.library()
    section["instruction set"] = active + (" (forced)" if os.environ.get("LATEBOLT_ISA") else "")
    section["available"] = ", ".join(isa.available())
    section["in use"] = native.describe()
    needed = names.kernels_of((128, 96, 64), active, most_query_tokens=32)
    if library is not None:
        section["library"] = f"{library.path}, {library.about.size / 1e6:.1f} MB"
        section["widths"] = ", ".join(map(str, library.about.dims))
        carried = [name for name in needed if library.kernel(name, targets.code_of(name, active)) is not None]
        section |= dict.fromkeys(carried, "in the library")
        needed = [name for name in needed if name not in carried]
    if not needed:
        return
    section["cache"] = str(compiled.cache_folder())
    for name in needed:
        code = targets.code_of(name, active)
        if warm:
            start = time.perf_counter()
            _, was_cached = compiled.object_code(name, code)
            took = f"{1e3 * (time.perf_counter() - start):.0f} ms"
            section[name] = f"{'from the cache' if was_cached else 'compiled'} in {took}"
        else:
            is_there = caches.read(compiled.place(name, code)) is not None
            section[name] = "compiled" if is_there else "not compiled yet (--warm)"


def _onnxruntime() -> dict[str, Any]:
    from latebolt.errors import RuntimeUnavailable
    from latebolt.onnx_runtime import onnxruntime

    try:
        ort = onnxruntime()
    except RuntimeUnavailable as error:
        return {"missing": str(error)}
    return {"version": ort.__version__, "providers": ", ".join(ort.get_available_providers())}


def _model(model: str, device: str) -> dict[str, Any]:
    from latebolt import Encoder
    from latebolt.errors import LateboltError

    try:
        start = time.perf_counter()
        encoder = Encoder.load(model, device=device)
        loaded = time.perf_counter()
        encoder.encode_queries(["hello world"])
        answered = time.perf_counter()
    except LateboltError as error:
        return {"problem": str(error)}
    contract = encoder.contract
    return {
        "name": encoder.model,
        "folder": str(encoder.folder.path),
        "precisions": ", ".join(contract.graphs),
        "a gpu takes": _for_gpus(contract),
        "heads": ", ".join(str(head.dim) for head in contract.heads),
        "in use": f"{encoder.precision}, dim {encoder.dim}, {encoder.threads} threads, {encoder.device}",
        "loaded in": f"{1e3 * (loaded - start):.0f} ms",
        "one query in": f"{1e3 * (answered - loaded):.1f} ms",
    }


def _for_gpus(contract: Any) -> str:
    """The precision that a GPU runs, and in which forms texts share its runs there."""
    from latebolt.encoder.loading import fastest

    precision = fastest(contract.graphs, on_cpu=False)
    if precision == "int8":
        return "nothing: int8 is made for CPUs; export the checkpoint with fp16"
    forms = ", ".join(contract.gpu_graphs) if precision == "fp16" else ""
    return f"{precision}, texts share runs: {forms or 'padded'}"
