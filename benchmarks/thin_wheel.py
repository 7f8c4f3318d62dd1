"""Makes a wheel with CUDA code smaller for one kind of GPU, for a machine to which little can be brought.

    python benchmarks/thin_wheel.py onnxruntime_gpu-1.31.1-cp312-cp312-....whl wheels

keeps machine code for compute capability 9.0 (H100, H200) and makes that for others zeros, which take no
room in a wheel: their places and headers stay, and the driver has to pass them over as any that
is not its GPU's. The wheel comes in pieces, which `gpu.sh` puts together. For measuring only.

Source of the format, which NVIDIA has not published: the headers of fat binaries as cuobjdump lists them. A
file in which they do not follow each other as expected is left as it is.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_MAGIC: Final = struct.pack("<I", 0xBA55ED50)
_BINARY: Final = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes behind it
_PART: Final = struct.Struct("<HHIQ")  # kind, version, bytes of this header, bytes behind it
_CAPABILITY: Final = 28  # where in a part's header its compute capability stands, such as 90
_MACHINE_CODE: Final = 2
MB: Final = 1 << 20


class Part(NamedTuple):
    """A part of a fat binary: its kind, the compute capability it is for, and where its content lies."""

    kind: int
    capability: int
    start: int
    stop: int


def parts(content: bytes | bytearray) -> Iterator[Part]:
    """The parts of all fat binaries in a library.

    Raises:
        ValueError: they are not laid out as expected.
    """
    at = content.find(_MAGIC)
    while at >= 0:
        _, version, size, behind = _BINARY.unpack_from(content, at)
        place, stop = at + size, at + size + behind
        if (version, size) != (1, _BINARY.size) or stop > len(content):
            raise ValueError(f"an unknown header at {at}")
        while place < stop:
            kind, _, header, behind = _PART.unpack_from(content, place)
            [capability] = struct.unpack_from("<I", content, place + _CAPABILITY)
            end = place + header + behind
            if header < 32 or end > stop or not 50 <= capability < 200:
                raise ValueError(f"an unknown part at {place}")
            yield Part(kind, capability, place + header, end)
            place = end
        at = content.find(_MAGIC, stop)


def thinned(content: bytes, capability: int) -> bytes:
    """A library with machine code for one compute capability alone, of the same size."""
    made = bytearray(content)
    for part in list(parts(content)):
        if part.kind == _MACHINE_CODE and part.capability != capability:
            made[part.start : part.stop] = bytes(part.stop - part.start)
    return bytes(made)


def thin_wheel(wheel: Path, out: Path, capability: int, piece: int) -> list[Path]:
    """Write the wheel with thinner libraries, in pieces of so many bytes."""
    whole, changed = io.BytesIO(), {}
    with (
        zipfile.ZipFile(wheel) as given,
        zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made,
    ):
        for info in given.infolist():
            content = given.read(info)
            if info.filename.endswith(".so") and _MAGIC in content:
                try:
                    content = changed[info.filename] = thinned(content, capability)
                except ValueError as error:
                    print(f"{info.filename} is left as it is: {error}", file=sys.stderr)
            if info.filename.endswith(".dist-info/RECORD"):
                content = _record(content.decode(), changed).encode()
            made.writestr(info, content, zipfile.ZIP_DEFLATED, 9)
    out.mkdir(parents=True, exist_ok=True)
    written, data = [], whole.getvalue()
    for number, start in enumerate(range(0, len(data), piece)):
        written.append(out / f"{wheel.name}.{number:02}")
        written[-1].write_bytes(data[start : start + piece])
    return written


def _record(text: str, changed: dict[str, bytes]) -> str:
    """The wheel's list of files with the digests of what was changed."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for name, digest, size in csv.reader(text.splitlines()):
        if name in changed:
            found = base64.urlsafe_b64encode(hashlib.sha256(changed[name]).digest()).rstrip(b"=")
            digest, size = f"sha256={found.decode()}", str(len(changed[name]))
        writer.writerow([name, digest, size])
    return lines.getvalue()


def main() -> None:
    """Thin one wheel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--capability", type=int, default=90, help="of the GPU: 90 is 9.0")
    parser.add_argument("--piece", type=int, default=48, help="MB of a piece at most")
    given = parser.parse_args()
    for path in thin_wheel(given.wheel, given.out, given.capability, given.piece * MB):
        print(f"{path} {path.stat().st_size / MB:.1f} MB")


if __name__ == "__main__":
    main()
