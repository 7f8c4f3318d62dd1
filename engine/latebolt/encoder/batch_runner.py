"""Takes tokenised texts of a model through its graphs on GPUs, several in a run; see `batches` for which and
`fleet` for where. Their vectors are float32 by the time they leave a device's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.contract import Head
from latebolt.devices import Device
from latebolt.encoder import batches
from latebolt.encoder.batches import Run, Text
from latebolt.encoder.fleet import LANES, Fleet, Worker
from latebolt.encoder.gpu_runs import GpuRuns
from latebolt.encoder.session import Session
from latebolt.encoder.text import TokenIds
from latebolt.gpu import nvml

# A run of so many texts of so many tokens shows what a token takes of a device's memory.
_PROBE_ROWS: Final = 8
_PROBE_TOKENS: Final = 512

# The session of a form on a device.
OpenSession = Callable[[Device, str, Head], Session]

# A row a token, by names.
Columns = Mapping[str, npt.NDArray[Any]]
# Makes columns of the vectors that a run has left on a device: an onnxruntime.OrtValue [.., dim], and which
# of its rows, one behind the other, are wanted, int64 [n] or None for all; see `Session.run_staying`.
Code = Callable[[Device, Any, Int64 | None], Columns]


@dataclass(frozen=True)
class _Job:
    """Texts of a call, the width of their vectors, and what becomes of these, if they are not wanted."""

    tokens: Sequence[TokenIds]
    head: Head
    code: Code | None = None


class BatchRunner:
    """Shared runs of one model. Thread-safe.

    Args:
        devices: that take part.
        session: opens a form's graph on a device, or gives the one that is open.
        head: any of the model's, to measure with.
        pad: the id that fills up.
        longest: tokens that the model takes.
    """

    def __init__(
        self, devices: Sequence[Device], session: OpenSession, head: Head, pad: int, longest: int
    ) -> None:
        self._session, self._head, self._pad, self._longest = session, head, pad, longest
        self._fleet: Fleet[Any] = Fleet([self._worker(device) for device in devices])

    def vectors(
        self,
        tokens: Sequence[TokenIds],
        head: Head,
        runs: GpuRuns,
        each: Callable[[int, Float32], None] = lambda place, vectors: None,
    ) -> list[Float32]:
        """Float32 [n_kept, dim] of each text, in order.

        Args:
            each: called with a text's place and vectors as soon as they are there, by a device's thread.
        Raises:
            OutOfMemory: a device has too little even for smaller runs.
            RuntimeUnavailable: a device failed.
            InvalidInput: the model is closed.
            ModelError: it has no graph of that form.
        """
        return self._results(_Job(tokens, head), runs, each)

    def coded(
        self,
        tokens: Sequence[TokenIds],
        head: Head,
        runs: GpuRuns,
        code: Code,
        each: Callable[[int, Columns], None] = lambda place, columns: None,
    ) -> list[Columns]:
        """What `code` makes of each text's vectors where they lie, in order; else as `vectors`.

        Args:
            code: called by the devices' threads, with the vectors of a whole run.
        """
        return self._results(_Job(tokens, head, code), runs, each)

    def _results(self, job: _Job, runs: GpuRuns, each: Callable[[int, Any], None]) -> list[Any]:
        texts = [Text(len(each.ids), each.attended == len(each.ids)) for each in job.tokens]
        planned = self._fleet.halvings
        return self._fleet.results(job, self._plan(texts, runs), planned, each)

    def close(self) -> None:
        """End the threads; what waits is never begun."""
        self._fleet.close()

    def _plan(self, texts: Sequence[Text], runs: GpuRuns) -> list[Run]:
        if runs.deterministic:
            return batches.plan(texts, "padded", 1)
        if runs.tokens is None:
            return batches.plan(texts, runs.form, self._fleet.tokens)
        return batches.plan(texts, runs.form, runs.tokens >> self._fleet.halvings)

    def _worker(self, device: Device) -> Worker[Any]:
        def run(job: object, part: Run) -> Sequence[Any]:
            whole = cast(_Job, job)
            return self._run(device, part.form, [whole.tokens[i] for i in part.texts], whole)

        return Worker(f"{device.kind}:{device.number}", run, lambda: self._measure(device))

    def _run(self, device: Device, form: str, tokens: Sequence[TokenIds], job: _Job) -> Sequence[Any]:
        ids, mask, kept = arrays(tokens, self._pad)
        session = self._session(device, form, job.head)
        ends = np.cumsum([each.n_kept for each in tokens])[:-1]
        if job.code is None:
            return list(np.split(session.run_batch(ids, mask, kept), ends))
        columns = job.code(device, *session.run_staying(ids, mask, kept))
        parts = [np.split(column, ends) for column in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*parts, strict=True)]

    def _measure(self, device: Device) -> int:
        """Tokens of a run that the memory of a device has room for: see `batches.budget`."""
        session = self._session(device, "padded", self._head)
        width = min(_PROBE_TOKENS, self._longest)
        probe = np.full((_PROBE_ROWS, width), self._pad)
        session.run_batch(probe[:, :1], np.ones_like(probe[:, :1]))  # loads what every run needs
        before = nvml.gpu(device.number)
        session.run_batch(probe, np.ones_like(probe))
        after = nvml.gpu(device.number)
        if before is None or after is None:
            return batches.budget(None, 0, probe.size, LANES)
        return batches.budget(before.free, before.free - after.free, probe.size, LANES)


def arrays(tokens: Sequence[TokenIds], pad: int) -> tuple[Int64, Int64 | None, Int64]:
    """What a run of texts takes: ids and mask, int64 [rows, tokens], and int64 [n_kept], the places of the
    tokens whose vectors are kept. The mask is None where all tokens may be attended to."""
    lengths = np.array([len(each.ids) for each in tokens])
    width = int(lengths.max())
    ids = np.full((len(tokens), width), pad)
    for row, each in zip(ids, tokens, strict=True):
        row[: len(each.ids)] = each.ids
    columns = np.arange(width)
    attended = np.array([each.attended for each in tokens])
    mask = None if (attended == width).all() else (columns < attended[:, None]).astype(np.int64)
    kept = columns < lengths[:, None]
    for row, each in zip(kept, tokens, strict=True):
        if each.keep is not None:
            row[: len(each.keep)] = each.keep
    return ids, mask, np.flatnonzero(kept)
