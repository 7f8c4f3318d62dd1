"""How much memory does `latebolt index` take for 0.5, 2 and 5 GB of files, and how long a second run?

A folder of mixed files is made for each size and removed afterwards. By bytes, a tenth are texts of 2 to
40 MB, which are read and kept whole. A half are texts that are larger than a document may be, a fifth is
binary junk with the suffixes of texts, a tenth scripts of one endless line, the rest tables and lines of JSON
that break at their end: all of these are read and passed over. Beside them each folder has the same two
hundred small files of every kind. The command runs with --whole, so that of each document the model reads the
beginning only: it is a measurement of memory, and of what surrounds the model. It says nothing about how fast
5 GB of small files are encoded, all of which the model would have to read; that is `encode.py`.

Memory is that of the command and of the process in which it reads .html, .docx and .pdf, added up and looked
at every 20 ms: resident, and "own", what of it is no file's and so cannot be taken back by the system. Then
10,000 small files of which none has changed: seconds from the start of the process to its exit.
"""

from __future__ import annotations

import html
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import THREAD_VARIABLES, arguments, folder_bytes, record

SIZES = (0.5, 2.0, 5.0)  # GB
SMALL = 20  # files of each small kind
UNCHANGED = 10_000
MB = 1_000_000
BLOCK = 1 * MB  # of a large file, written at a time
LOOK_S = 0.02
_DOCX = (
    '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    "<w:body>{body}</w:body></w:document>"
)
_DOCX_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
    'wordprocessingml.document.main+xml"/></Types>'
)
_DOCX_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Target="word/document.xml" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument"/></Relationships>'
)


class Texts:
    """Text without end, put together from the lines of the standard library; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        lines = {line for file in files for line in file.read_text("utf-8").splitlines() if len(line) > 20}
        self._lines, self._random = sorted(lines), random.Random(seed)

    def of(self, size: int, end: str = "\n") -> str:
        """About so many characters."""
        return end.join(self._random.choices(self._lines, k=max(1, size // 50)))

    def between(self, least: int, most: int) -> int:
        """A size."""
        return self._random.randint(least, most)

    def bytes(self, size: int) -> bytes:
        """No text."""
        return self._random.randbytes(size)


def write_docx(path: Path, text: str) -> None:
    """The least that is a .docx."""
    words = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in words.splitlines())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", _DOCX_TYPES)
        file.writestr("_rels/.rels", _DOCX_RELATIONS)
        file.writestr("word/document.xml", _DOCX.format(body=body))


def write_pdf(path: Path, text: str) -> None:
    """One page, a line of text below the other."""
    lines = [re.sub("[^A-Za-z0-9 ]", "", line)[:90] for line in text.splitlines()[:60]]
    shown = "".join(f"({line}) Tj 0 -12 Td " for line in lines)
    stream = f"BT /F1 10 Tf 40 780 Td {shown} ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 "
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
    ]
    content, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    trailer = f"trailer\n<< /Root 1 0 R /Size {size} >>\nstartxref\n{len(content)}\n%%EOF\n"
    path.write_text(f"{content}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}")


def write_small(folder: Path, n: int, texts: Texts) -> None:
    """So many files of each kind, of some hundred words."""
    for i in range(n):
        text = texts.of(texts.between(500, 3000))
        lines = text.splitlines()
        for suffix in (".md", ".txt", ".rst"):
            (folder / f"note{i}{suffix}").write_text(f"{suffix} {i}\n\n{text}\n")
        (folder / f"code{i}.py").write_text(f"def function{i}():\n" + "\n".join(f"    {x!r}" for x in lines))
        paragraphs = "".join(f"<p>{html.escape(line)}</p>\n" for line in lines)
        (folder / f"page{i}.html").write_text(f"<title>page {i}</title>{paragraphs}")
        (folder / f"table{i}.csv").write_text(f"id,text\nr{i},{json.dumps(lines[0].replace(chr(34), ''))}\n")
        (folder / f"rows{i}.jsonl").write_text(json.dumps({"id": f"j{i}", "text": text}) + "\n")
        cells = [{"cell_type": "code", "source": lines, "outputs": [{"data": "x" * 10_000}]}]
        (folder / f"book{i}.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
        write_docx(folder / f"letter{i}.docx", text)
        write_pdf(folder / f"paper{i}.pdf", text)


def write_large(folder: Path, size: float, texts: Texts) -> None:
    """Large files of so many bytes together, see the module."""

    def files(share: float, least: int, most: int) -> Iterator[int]:
        left = int(size * share)
        while left > 0:
            each = min(left, texts.between(least, most)) if left > least else left
            yield each
            left -= each

    def write(path: Path, length: int, end: str = "\n") -> None:
        with path.open("w", encoding="utf-8") as file:
            for start in range(0, length, BLOCK):
                if start % (8 * BLOCK) == 0:  # the same lines eight times: making them takes longest
                    block = texts.of(BLOCK, end)
                file.write(f"{start}{end}{block}"[: length - start])

    for i, length in enumerate(files(0.1, 2 * MB, 40 * MB)):
        write(folder / f"whole{i}{('.txt', '.md', '.rst', '.py')[i % 4]}", length)
    for i, length in enumerate(files(0.5, 60 * MB, 250 * MB)):
        write(folder / f"log{i}{('.txt', '.md')[i % 2]}", length)
    for i, length in enumerate(files(0.2, 1 * MB, 45 * MB)):
        path = folder / f"junk{i}{('.txt', '.py', '.html', '.pdf', '.docx', '.ipynb')[i % 6]}"
        path.write_bytes(texts.bytes(length))
    for i, length in enumerate(files(0.1, 1 * MB, 40 * MB)):
        write(folder / f"bundle{i}.js", length, end=";")
    row = json.dumps({"text": "a row of an endless log", "level": 3, "at": "2026-11-29"})
    for i, length in enumerate(files(0.05, 5 * MB, 100 * MB)):
        lines, last = (f"{row}\n", "{broken\n") if i % 2 else ('"a cell",2,"another"\n', '"open\n')
        with (folder / f"rows{i}-large{('.csv', '.jsonl')[i % 2]}").open("w") as file:
            for _ in range(length // len(lines) // 1000):
                file.write(lines * 1000)
            file.write(last)


def sizes_of(process: int) -> tuple[float, float]:
    """Resident MB of a process, and what of it is no file's; 0 of one that is gone."""
    found = {"VmRSS": 0.0, "RssAnon": 0.0}
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024 / 1e6
    except OSError:
        pass
    return found["VmRSS"], found["RssAnon"]


def children_of(process: int) -> list[int]:
    """The processes that one has started."""
    try:
        tasks = Path(f"/proc/{process}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def run_index(index: Path, folder: Path, threads: int, *options: str) -> dict[str, Any]:
    """One `latebolt index`, looked at until its end."""
    command = [sys.executable, "-m", "latebolt", "index", str(index), str(folder), *options, "--json"]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=environment)
        peak = own = 0.0
        ended = 0
        while not ended:
            looked = [sizes_of(each) for each in (process.pid, *children_of(process.pid))]
            peak = max(peak, sum(size for size, _ in looked))
            own = max(own, sum(size for _, size in looked))
            time.sleep(LOOK_S)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        out.seek(0)
        told = json.loads(out.read())
    return {
        "documents": told["documents"],
        "added": told["added"],
        "unchanged": told["kept"],
        "passed over": len(told["skipped"]),
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_MB": peak,
        "own_MB": own,
    }


def bulk_rows(size: float, n_small: int, threads: int) -> list[dict[str, Any]]:
    """First and second run over a folder of so many GB."""
    with tempfile.TemporaryDirectory(prefix="latebolt-bulk-") as temporary:
        root = Path(temporary)
        if shutil.disk_usage(root).free < 1.5e9 * size + 1e9:
            raise SystemExit(f"{root}: has not the room for {size} GB and its index. Set TMPDIR.")
        folder, index = root / "files", root / "files.index"
        folder.mkdir()
        texts = Texts(7)
        write_small(folder, n_small, texts)
        write_large(folder, 1e9 * size, texts)
        shared = {"files": sum(1 for _ in folder.iterdir()), "GB": folder_bytes(folder) / 1e9}
        time.sleep(2.1)  # a file as young as a file system's clock is coarse is read again
        runs = []
        for run in ("first", "second, nothing changed"):
            row = {"run": run, **shared, **run_index(index, folder, threads, "--whole")}
            runs.append({**row, "load": os.getloadavg()[0]})
            print(runs[-1], file=sys.stderr, flush=True)
        return runs


def unchanged_rows(n: int, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Later runs over n small files of which none has changed: the median by seconds."""
    with tempfile.TemporaryDirectory(prefix="latebolt-bulk-") as temporary:
        folder, index = Path(temporary) / "files", Path(temporary) / "files.index"
        texts = Texts(8)
        for i in range(n):
            inside = folder / f"folder{i // 100}"
            inside.mkdir(parents=True, exist_ok=True)
            (inside / f"note{i}.md").write_text(f"note {i} {texts.of(50)[:40]}\n")
        time.sleep(2.1)
        first = run_index(index, folder, threads)
        later = sorted(
            (run_index(index, folder, threads) for _ in range(rounds)), key=lambda row: row["wall_s"]
        )
        shared = {"files": n, "GB": folder_bytes(folder) / 1e9}
        rows = [("first", first), (f"second, nothing changed, median of {rounds}", later[rounds // 2])]
        return [{"run": run, **shared, **row, "load": os.getloadavg()[0]} for run, row in rows]


def main() -> None:
    """Each size, first and second run; then the small files."""
    given = arguments(__doc__, gb=0.0)
    sizes = (0.004,) if given.quick else (given.gb,) if given.gb else SIZES
    n, rounds = (40, 1) if given.quick else (UNCHANGED, 5)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows += bulk_rows(size, 2 if given.quick else SMALL, given.threads)
    rows += ({"table": "unchanged", **row} for row in unchanged_rows(n, rounds, given.threads))
    for row in rows:
        assert row["run"] == "first" or row["added"] == 0 < row["unchanged"] == row["documents"], row
    record("bulk", rows, (), given.quick or bool(given.gb))


if __name__ == "__main__":
    main()
