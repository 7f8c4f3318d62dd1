"""What does a device with little memory see: what do encoding, indexing, searching and serving take, and what
is the least they work with?

Each row is a fresh process that does one job with one of the built-in models on two threads: its largest
resident memory without any cap, what became of it with 512 and 1,024 MiB, and the smallest cap, in steps of
32 MiB, with which it still works. The cap is RLIMIT_DATA: memory that the process may write, whether it is
touched or not, such as ONNX Runtime's arenas, heaps of malloc and stacks of threads (8 MiB each). Pages of
mapped files (code, the index), which a system takes back when others need them, are not counted. So a cap is
stricter than a control group of that size for what is asked for and not used, and more lenient for files.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from harness import arguments, read_stdlib, record, status_mb

MODELS = ("starter", "multilingual")
CAPS = (512, 1024)  # MiB
STEP, MOST, LEAST = 32, 1536, 64
PATIENCE_S = 120
CHARACTERS, QUICK_CHARACTERS = 1_000_000, 60_000  # of the folder that is indexed


def write_notes(folder: Path, characters: int) -> None:
    """Docstrings of the standard library, a file for some of them."""
    folder.mkdir()
    texts = [document.text for document in read_stdlib()]
    held = 0
    for start in range(0, len(texts), 8):
        text = "\n\n".join(texts[start : start + 8])
        (folder / f"{start}.md").write_text(text)
        held += len(text)
        if held > characters:
            return


def encode(folder: Path, model: str, threads: int) -> int:
    """Load the model and encode a query."""
    from latebolt import Encoder

    Encoder.load(model, threads=threads).encode_queries(["how do I read a zip file"])
    return 0


def command(*words: object) -> int:
    """A command as its users start it; gives its exit code."""
    import atexit

    from latebolt.cli import main

    # A search leaves its process without coming back.
    atexit.register(lambda: print(json.dumps({"peak_MB": status_mb("VmHWM")}), flush=True))
    main([str(word) for word in words])
    return 0


def index(folder: Path, model: str, threads: int) -> int:
    """`latebolt index` of the notes."""
    made = folder / f"{model}-made"
    return command("index", made, folder / "notes", "--model", model, "--threads", threads)


def search(folder: Path, model: str, threads: int) -> int:
    """`latebolt search` of an index of the notes."""
    return command("search", folder / model, "how do I read a zip file", "--threads", threads)


def serve(folder: Path, model: str, threads: int) -> int:
    """`latebolt serve`, asked once to rerank two texts; its memory is this job's."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    words = ("serve", "--port", port, "--model", model, "--threads", threads, "--data", folder / "data")
    with subprocess.Popen(
        [sys.executable, "-m", "latebolt", *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            place, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
            while not answers(f"{place}/ready"):
                if server.poll() is not None or time.monotonic() > end:
                    print(server.communicate(timeout=PATIENCE_S)[1], file=sys.stderr)
                    return 1
                time.sleep(0.1)
            asked = {"model": model, "query": "bread", "documents": ["a cat", "fresh bread"]}
            code = 0 if answers(f"{place}/v1/rerank", json.dumps(asked).encode()) else 1
            status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
            [line] = [line for line in status if line.startswith("VmHWM:")]
            print(json.dumps({"peak_MB": int(line.split()[1]) * 1024 / 1e6}), flush=True)
            return code
        finally:
            server.terminate()


def answers(url: str, body: bytes | None = None) -> bool:
    """Whether a server answers a request with 200."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return bool(answer.status == 200)
    return False


JOBS = {"encode": encode, "index": index, "search": search, "serve": serve}


def run_child(job: str, model: str, cap: int, folder: Path, threads: int) -> None:
    """Do a job under a cap of so many MiB (0: none), and print its largest resident memory in MB."""
    if cap:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (cap << 20, cap << 20))
    code = JOBS[job](folder, model, threads)
    if job == "encode":
        print(json.dumps({"peak_MB": status_mb("VmHWM")}), flush=True)
    sys.exit(code)


def attempt(job: str, model: str, cap: int, folder: Path, threads: int) -> tuple[str, float]:
    """What became of it, "works" or how it ended, and the largest resident memory of what works."""
    shutil.rmtree(folder / f"{model}-made", ignore_errors=True)
    words = ("--job", job, "--model", model, "--cap", cap, "--folder", folder, "--threads", threads)
    command = [sys.executable, __file__, "--child", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return "works", json.loads(done.stdout.splitlines()[-1])["peak_MB"]
    said = [line for line in done.stderr.splitlines() if "memory" in line.lower() or "needs at least" in line]
    return (said[-1][:160] if said else f"ends with {done.returncode}"), 0.0


def least_cap(job: str, model: str, folder: Path, threads: int) -> int:
    """The smallest cap with which a job works, by halving."""
    low, high = LEAST // STEP, MOST // STEP  # fails (or was not tried), works
    while high - low > 1:
        middle = (low + high) // 2
        works = attempt(job, model, middle * STEP, folder, threads)[0] == "works"
        low, high = (low, middle) if works else (middle, high)
    return high * STEP


def main() -> None:
    """One row a job and a model."""
    given = arguments(__doc__, job="", model="", cap=0, folder="")
    if given.child:
        run_child(given.job, given.model, given.cap, Path(given.folder), given.threads)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_notes(folder / "notes", QUICK_CHARACTERS if given.quick else CHARACTERS)
        for model in MODELS[:1] if given.quick else MODELS:
            for job in [name for name in JOBS if not (given.quick and name == "serve")]:
                attempt(
                    job, model, 0, folder, given.threads
                )  # compiles what this machine has not compiled yet
                outcome, peak = attempt(job, model, 0, folder, given.threads)
                row: dict[str, Any] = {"model": model, "job": job, "without a cap": outcome, "peak_MB": peak}
                if job == "index":
                    (folder / f"{model}-made").rename(folder / model)  # what is searched
                for cap in CAPS[:1] if given.quick else CAPS:
                    row[f"{cap} MiB"] = attempt(job, model, cap, folder, given.threads)[0]
                if not given.quick:
                    row["least_MiB"] = least_cap(job, model, folder, given.threads)
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    record("memory_caps", rows, quick=given.quick)


if __name__ == "__main__":
    main()
