"""Are kernels compiled ahead of time as fast as those compiled on this machine, and what do they save?

Each family of kernels does the same work from the library and compiled here, in turns in one process, on one
thread; results are equal bit for bit, or nothing is counted. Then the first search of a fresh process whose
cache is empty, both ways, and with a full cache; and what an environment for the CPU takes with and without
the compilers. Wants the library of this platform: `python -m latebolt.kernels.build`.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

from harness import arguments, record
from latebolt import Index, TokenVectors
from latebolt.kernels import build, compiled, compiler, isa, native
from latebolt.kernels.ahead import loaded, manifest, objects
from latebolt.kernels.centroids import centroid_levels, centroid_scores, maxsim_centroids, nearest
from latebolt.kernels.lists import count_lists, fill_lists, gather
from latebolt.kernels.maxsim import (
    ResidualArrays,
    maxsim_arrays,
    maxsim_bytes,
    maxsim_residual,
    residual_query,
    score_table,
)
from latebolt.kernels.residual import encode_residual
from latebolt.kernels.shapes import N_ARGUMENTS

DIM = 128
FIRST_SEARCH = """
import time; start = time.perf_counter()
import numpy
from latebolt import Index
from latebolt.cli.common import resident_mb
index = Index.open({index!r})
query = numpy.random.default_rng(1).standard_normal((32, 128)).astype("float32")
found = index.search_vectors(query / numpy.linalg.norm(query, axis=1, keepdims=True))
print(1e3 * (time.perf_counter() - start), resident_mb(), found[0].id)
"""


def an_index(folder: Path) -> Index:
    """Of random vectors; loading no model."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20_000, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = Index.create(folder / "index", None, dim=DIM)
    index.add_vectors(None, TokenVectors(vectors, np.arange(0, 20_001, 100)))
    return index


def jobs(tokens: int, index: Index) -> dict[str, Callable[[], Any]]:
    """Work for each family of kernels, on one thread."""
    rng = np.random.default_rng(0)

    def unit(*shape: int) -> np.ndarray:
        made = rng.standard_normal(shape).astype(np.float32)
        return made / np.linalg.norm(made, axis=-1, keepdims=True)

    offsets = np.arange(0, tokens + 1, 100)
    query, values, centroids = unit(32, DIM), unit(tokens, DIM), unit(256, DIM)
    half, spread = values.astype(np.float16), (rng.random(DIM) / 50 + 0.01).astype(np.float32)
    levels = centroid_levels(centroids)
    cells = rng.integers(0, 256, tokens)
    short = cells.astype(np.uint16)
    factors = rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32)
    dots, scores = np.ascontiguousarray(centroids @ query.T), centroid_scores(centroids @ query.T)
    counts = count_lists(short, offsets, 256)
    lists = fill_lists(short, offsets, 0, counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    probes = np.array(
        [[ends[c], ends[c + 1], 255 - c, token] for token in range(1, 33) for c in range(token, 160, 32)]
    )
    found: dict[str, Callable[[], Any]] = {
        "maxsim_float32": lambda: maxsim_arrays(query, values, offsets, n_threads=1),
        "maxsim_float16": lambda: maxsim_arrays(query, half, offsets, n_threads=1),
        "maxsim_bytes": lambda: maxsim_bytes(query, codes, scales, offsets, n_threads=1),
        "score_table": lambda: score_table(query, values, 1),
        "nearest_centroid": lambda: nearest(values, levels, 1),
        "byte_table": lambda: centroid_scores(np.repeat(dots, 64, axis=0), n_threads=1).table,
        "maxsim_centroids": lambda: maxsim_centroids(scores, short, offsets, n_threads=1),
        "fill_lists": lambda: fill_lists(short, offsets, 0, counts),
        "all that a search of an index asks for": lambda: np.array(
            [hit.score for hit in index.search_vectors(query)]
        ),
        "gather_lists": lambda: gather(lists, probes, len(offsets) - 1, n_threads=1)[0],
    }
    codes, scales = rng.integers(0, 128, (tokens, DIM), np.uint8), rng.random(tokens).astype(np.float32)

    def scoring(store: ResidualArrays, bits: int, n_query: int) -> Callable[[], Any]:
        prepared = residual_query(query[:n_query], centroids, spread, 1)
        return lambda: maxsim_residual(prepared, store, bits, offsets, n_threads=1)

    def encoding(weights: np.ndarray) -> Callable[[], Any]:
        return lambda: encode_residual(values, cells, centroids, spread, weights, 3.0, factors, 1).codes

    for bits in (1, 2, 4):
        found[f"encode_residual, {bits} bit"] = encoding(np.linspace(-1.5, 1.5, 2**bits, dtype=np.float32))
        store = ResidualArrays(
            rng.integers(0, 256, (tokens, DIM * bits // 8), np.uint8), short,
            rng.integers(0, 256, tokens, np.uint8), factors, np.linspace(0, 127, 16).astype(np.uint8),
        )  # fmt: skip
        for n_query in (32, 12, 4):
            found[f"maxsim_residual, {bits} bit, {n_query} query tokens"] = scoring(store, bits, n_query)
    return found


def compiled_here(name: str) -> Callable[..., None]:
    """A kernel as this machine compiles it."""
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * N_ARGUMENTS[name.partition(":")[0]])
    return kind(compiled.load(name, isa.active()))


def small_library(folder: Path, asked: list[str]) -> loaded.Library:
    """For a quick run: a library of the kernels that were asked for."""
    scratch = folder / "objects"
    scratch.mkdir()
    for name in asked:
        (scratch / f"{compiler.symbol(name, isa.active())}.o").write_bytes(
            compiled.object_code(name, isa.active())[0]
        )
    if build.PLATFORMS[manifest.this_platform()] == "x86_64":
        objects.write_registers(scratch)
    about = build.put_together(scratch, manifest.this_platform(), folder, (DIM,), len(asked))
    return loaded.Library(folder, about)


def speeds(
    folder: Path, index: Index, rounds: int, tokens: int, quick: bool
) -> tuple[list[dict[str, Any]], Path]:
    """A row a job; and where the library is."""
    ways: dict[str, dict[str, Callable[..., None]]] = {"here": {}, "library": {}}

    def use(way: str) -> None:
        def kernel(name: str) -> Callable[..., None]:
            if name not in ways[way]:
                found = compiled_here(name) if way == "here" else library.kernel(name, isa.active())
                if found is None:
                    raise SystemExit(f"{library.path} lacks {name}")
                ways[way][name] = found
            return ways[way][name]

        native.kernel = kernel  # type: ignore[assignment]

    use("here")
    work = jobs(tokens, index)
    expected = {name: np.asarray(job()).tobytes() for name, job in work.items()}
    library = small_library(folder, sorted(ways["here"])) if quick else loaded.library()
    if library is None:
        raise SystemExit(loaded.why_not())
    use("library")
    for name, job in work.items():
        if np.asarray(job()).tobytes() != expected[name]:
            raise SystemExit(f"{name}: the library's bits are others")
    rows = []
    for name, job in work.items():
        times: dict[str, list[float]] = {"here": [], "library": []}
        for i in range(rounds + 2):
            for way in ("here", "library") if i % 2 else ("library", "here"):
                use(way)
                start = time.perf_counter()
                job()
                if i >= 2:
                    times[way].append(1e3 * (time.perf_counter() - start))
        ratio = np.median(np.array(times["library"]) / np.array(times["here"]))
        rows.append(
            {
                "kernel": name,
                "library_ms": float(np.median(times["library"])),
                "compiled_here_ms": float(np.median(times["here"])),
                "library / compiled here": float(ratio),
            }
        )
    return rows, library.path.parent


def first_searches(folder: Path, library: Path, rounds: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each state that a machine is in at the first search of a process."""
    full = None  # the user's own, in which `speeds` has left all that is asked for

    def search(kernels: str, cache: Path | None) -> tuple[float, float, str]:
        environment = {**os.environ, "LATEBOLT_KERNELS": kernels}
        if cache is not None:
            environment["LATEBOLT_CACHE"] = str(cache)
        script = FIRST_SEARCH.format(index=str(folder / "index"))
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        ms, mb, best = done.stdout.split()
        return float(ms), float(mb), best

    states = {
        "compiled here, nothing in the cache": ("jit", lambda i: folder / f"empty {i}"),
        "compiled here, all in the cache": ("jit", lambda i: full),
        "library": (str(library), lambda i: folder / f"unused {i}"),
    }
    if quick:
        states.pop("compiled here, nothing in the cache")
    search("jit", full)
    runs: dict[str, list[tuple[float, float, str]]] = {name: [] for name in states}
    for i in range(rounds):
        for name, (kernels, cache) in states.items():
            runs[name].append(search(kernels, cache(i)))
    if len({best for some in runs.values() for _, _, best in some}) != 1:
        raise SystemExit("the ways find different documents")
    return [
        {
            "table": "first search",
            "first search of a process": name,
            "ms": float(np.median([ms for ms, _, _ in some])),
            "peak_MB": float(np.median([mb for _, mb, _ in some])),
        }
        for name, some in runs.items()
    ]


def closure(names: list[str]) -> dict[str, int]:
    """Bytes of packages of this environment and of all that they require."""
    found: dict[str, int] = {}
    while names:
        name = names.pop().lower().replace("_", "-")
        if name in found:
            continue
        distribution = importlib.metadata.distribution(name)
        paths = [Path(str(file.locate())) for file in distribution.files or []]
        found[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names.append(requirement.name)
    return found


def sizes(library: Path) -> list[dict[str, Any]]:
    """What an environment for the CPU takes, latebolt itself with its models left out."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    base = [Requirement(each).name for each in project["tool"]["latebolt"]["requires"]]
    jit = [Requirement(each).name for each in project["project"]["optional-dependencies"]["jit"]]
    lean = closure([*base, "onnxruntime"])
    whole = closure([*base, "onnxruntime", *jit])
    code = (library / manifest.LIBRARY).stat().st_size

    def row(what: str, packages: dict[str, int], more: int) -> dict[str, Any]:
        largest = sorted(packages, key=lambda name: -packages[name])[:4]
        return {
            "table": "environment",
            "environment": what,
            "MB": (sum(packages.values()) + more) / 1e6,
            "library_MB": more / 1e6,
            "packages": len(packages),
            "largest": ", ".join(f"{name} {packages[name] / 1e6:.0f}" for name in largest),
        }

    return [row("with the compilers", whole, 0), row("with the library", lean, code)]


def main() -> None:
    """Medians; ratios are those of pairs of calls."""
    given = arguments(__doc__)
    rounds = 3 if given.quick else 41
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with an_index(folder) as index:
            rows, library = speeds(folder, index, rounds, 400 if given.quick else 40_000, given.quick)
        rows += first_searches(folder, library, 1 if given.quick else 7, given.quick)
        rows += sizes(library)
        about = json.loads((library / manifest.MANIFEST).read_text())
        rows.append(
            {
                "table": "library",
                "platform": about["platform"],
                "kernels": about["kernels"],
                "library_MB": about["size"] / 1e6,
                "widths": ", ".join(map(str, about["dims"])),
            }
        )
    record("ahead", rows, ("packaging",), given.quick)


if __name__ == "__main__":
    main()
