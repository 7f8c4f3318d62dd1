"""`latebolt doctor`: what will actually run on this machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any

import click

from latebolt.cli.common import json_option, resident_mb
from latebolt.cli.terminal import print_json, say, styled


@click.command("doctor")
@click.option("--warm", is_flag=True, help="Compile and cache every kernel now.")
@click.option("--model", default="starter", show_default=True, help="Model to load.")
@json_option
def doctor_command(warm: bool, model: str, as_json: bool) -> int:
    """Print machine, instruction set, kernels, ONNX Runtime, threads, model and caches.

    Exit code 1 where the model cannot be used.

    \b
    latebolt doctor
    latebolt doctor --warm --json
    """
    report = examine(model, warm)
    if as_json:
        print_json(report)
    else:
        for section, values in report.items():
            say(styled(section, bold=True))
            for name, value in values.items():
                say(f"  {name:<22}{value}")
    return 1 if "problem" in report["model"] else 0


def examine(model: str, warm: bool) -> dict[str, dict[str, Any]]:
    """Sections of name -> value. A part that fails says why instead of stopping the rest."""
    import llvmlite.binding as llvm

    from latebolt import __version__, caches
    from latebolt.cpus import available_cpus
    from latebolt.kernels import isa, native
    from latebolt.kernels.maxsim import residual_kernels

    cached = native.cache_folder() / native.cache_key(isa.active())
    report: dict[str, dict[str, Any]] = {
        "machine": {
            "latebolt": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cpu (LLVM)": llvm.get_host_cpu_name(),
            "cpus of this process": available_cpus(),
        },
        "kernels": {
            "instruction set": isa.active() + (" (forced)" if os.environ.get("LATEBOLT_ISA") else ""),
            "available": ", ".join(isa.available()),
            "cache": str(cached),
        },
    }
    names = ["maxsim_float32", "maxsim_float16", "byte_table", "fill_lists", "gather_lists"]
    names += [f"score_table:{dim}{short}" for dim in (128, 96, 64) for short in ("", "x1")]
    shapes = [(dim, bits) for dim in (128, 96, 64) for bits in (1, 2, 4)]
    names += [name for dim, bits in shapes for name in residual_kernels(dim, bits)]
    names += [f"encode_residual:{dim}x{bits}" for dim, bits in shapes]
    names += [f"{name}:{dim}" for name in ("maxsim_bytes", "nearest_centroid") for dim in (128, 96, 64)]
    names += ["maxsim_centroids:16", "maxsim_centroids:32"]
    if warm:
        for name in names:
            start = time.perf_counter()
            _, was_cached = native.object_code(name, isa.active())
            took = f"{1e3 * (time.perf_counter() - start):.0f} ms"
            report["kernels"][name] = f"{'from the cache' if was_cached else 'compiled'} in {took}"
    else:
        for name in names:
            is_there = caches.read(cached / native.file_name(name)) is not None
            report["kernels"][name] = "compiled" if is_there else "not compiled yet (--warm)"
    report["onnxruntime"] = _onnxruntime()
    report["model"] = _model(model)
    report["process"] = {
        "numba imported": "numba" in sys.modules,
        "torch imported": "torch" in sys.modules,
        "peak memory": f"{resident_mb():.0f} MB",
    }
    return report


def _onnxruntime() -> dict[str, Any]:
    from latebolt.errors import RuntimeUnavailable
    from latebolt.onnx_runtime import onnxruntime

    try:
        ort = onnxruntime()
    except RuntimeUnavailable as error:
        return {"missing": str(error)}
    return {"version": ort.__version__, "providers": ", ".join(ort.get_available_providers())}


def _model(model: str) -> dict[str, Any]:
    from latebolt import Encoder
    from latebolt.errors import LateboltError

    try:
        start = time.perf_counter()
        encoder = Encoder.load(model)
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
        "heads": ", ".join(str(head.dim) for head in contract.heads),
        "in use": f"{encoder.precision}, dim {encoder.dim}, {encoder.threads} threads, {encoder.device}",
        "loaded in": f"{1e3 * (loaded - start):.0f} ms",
        "one query in": f"{1e3 * (answered - loaded):.1f} ms",
    }
