"""`Model`: an exported model loaded on a device at one precision, and the one owner of its memory.

Its encoders are views (`encoder.Encoder`): any number of widths, lengths and thread counts share what is
loaded here, and closing the model closes them all. Knows nothing of texts.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latebolt import memory
from latebolt.contract import Graph, Head
from latebolt.devices import Device, named
from latebolt.encoder.model_folder import ModelFolder
from latebolt.encoder.session import Session
from latebolt.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from latebolt.encoder.batch_runner import BatchRunner
    from latebolt.encoder.recordings import Recordings

# Texts of bulk work that run on the session that is loaded, before one of a thread a run pays for its
# loading, which takes as long as encoding a few of them. A command that encodes ten never loads it.
_TEXTS_BEFORE_BULK: Final = 32

_abandoned: list[object] = []  # sessions of a parent process, see Model._leave_parent


class Model:
    """Sessions over one graph, made as they are asked for. Thread-safe; survives a fork.

    Args:
        devices: see `devices.resolve`; the first runs what is not shared between them.
    Raises:
        ModelError: no such graph, or one of its files is missing.
    """

    def __init__(self, folder: ModelFolder, precision: str, devices: tuple[Device, ...]) -> None:
        self.folder, self.precision, self.devices = folder, precision, devices
        # Texts share runs on GPUs alone: on the CPU one text a run is the fastest, see `encoder`.
        # A product of bytes quantises all texts of a run together, so that company would change vectors.
        self.shares_runs = not devices[0].is_cpu and precision != "int8"
        self._file, self._graph = folder.graph_file(precision)  # is looked for at once, so that it is told
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.sessions: dict[int, Session] = {}  # by threads; for looking at
        self._views: dict[tuple[int, Head], Session] = {}
        self._others: dict[tuple[Device, str], Session] = {}  # of shared runs: by device and form
        self._runner: BatchRunner | None = None
        self._recordings: dict[Head, Recordings | None] = {}
        self._bulk_texts = 0  # that ran on another session than that of bulk work
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def _leave_parent(self) -> None:
        """A forked child has none of the threads its parent's sessions wait for."""
        if self._owner != os.getpid():
            # Kept, because taking them apart here would wait for those threads too.
            _abandoned.append((self.sessions, self._views, self._others, self._runner, self._recordings))
            self._begin()

    @property
    def is_normalised(self) -> bool:
        """Whether its graph itself gives vectors of unit length."""
        return self._graph.normalised

    @property
    def device_name(self) -> str:
        """As `Encoder.load` takes it."""
        return named(self.devices)

    @property
    def device(self) -> Device:
        """The first of its devices."""
        return self.devices[0]

    def session(self, head: Head, threads: int) -> Session:
        """The graph with one of its outputs, loaded once for each number of threads.

        Raises:
            InvalidInput: the model is closed.
            ModelError, RuntimeUnavailable: see `Session`.
        """
        self._leave_parent()
        if self.shares_runs:
            return self._shared(self.devices[0], "padded", head)
        with self._lock:
            self._refuse_closed()
            key = threads, head
            if key not in self._views:
                if threads not in self.sessions:
                    self.sessions[threads] = Session(self._file, self._graph, head, threads, self.device)
                self._views[key] = self.sessions[threads].at(head)
            return self._views[key]

    def open(self, head: Head, threads: int) -> Session:
        """`session`, with the graph loaded on every device, so that one that cannot be used is told now."""
        session = self.session(head, threads)
        for device in self.devices[1:]:
            self._shared(device, "padded", head)
        return session

    def bulk_session(self, head: Head, threads: int, n_texts: int) -> Session:
        """The session for so many texts side by side: once there have been enough, of one thread
        a run; before, that of `threads`. Vectors are the same from either. Where memory is small, the
        session of bulk work takes the place of others.

        Raises:
            See `session`.
        """
        self._leave_parent()
        with self._lock:
            self._bulk_texts += n_texts
            few = 1 not in self.sessions and self._bulk_texts < _TEXTS_BEFORE_BULK
            if not few and 1 not in self.sessions and memory.is_small():
                # Each session holds all weights; one that is asked for again is loaded again, in a moment.
                self.sessions.clear()
                self._views.clear()
        return self.session(head, threads if few else 1)

    @property
    def batches(self) -> BatchRunner:
        """What takes several texts through the graph at once, on all devices."""
        self._leave_parent()
        with self._lock:
            self._refuse_closed()
            if self._runner is None:
                from latebolt.encoder.batch_runner import BatchRunner

                contract = self.folder.contract
                self._runner = BatchRunner(
                    self.devices, self._shared, contract.heads[0], contract.frame.pad, contract.max_tokens
                )
            return self._runner

    def _shared(self, device: Device, form: str, head: Head) -> Session:
        """The graph of a form on a device, loaded once."""
        with self._lock:
            self._refuse_closed()
            key = device, form
            if key not in self._others:
                file, graph = self._graph_of(form)
                self._others[key] = Session(file, graph, head, 1, device)
            return self._others[key].at(head)

    def recordings(self, head: Head) -> Recordings | None:
        """Recorded runs of single texts on the first device, made when they are first asked for; None, which
        is told once, where there cannot be any."""
        self._leave_parent()
        plain = self._shared(self.devices[0], "padded", head)
        with self._lock:
            self._refuse_closed()
            if head not in self._recordings:
                from latebolt.encoder.recordings import Recordings, recorded

                def make() -> Recordings:
                    file, graph = self._graph_of("padded")
                    own = Session(file, graph, head, 1, self.devices[0], records=True)
                    contract = self.folder.contract
                    return Recordings(own.fixed, plain.run_batch, contract.frame.pad, contract.max_tokens)

                self._recordings[head] = recorded(make, self.device_name)
            return self._recordings[head]

    def _graph_of(self, form: str) -> tuple[Path, Graph]:
        """The graph for a form of shared runs; for padded ones any has it, if not as good.

        Raises:
            ModelError: there is none.
        """
        found = self.folder.gpu_graph_file(form) if self.precision == "fp16" else None
        if found is None and form != "padded":
            raise ModelError(
                f'model "{self.folder.name}" has no graph for {form} runs of a GPU at {self.precision}. '
                "Export it again with --precisions fp16, or use padded runs."
            )
        return found or (self._file, self._graph)

    def check_form(self, form: str) -> None:
        """Refuse a form of shared runs for which there is no graph; on the CPU none is needed.

        Raises:
            ModelError: see above.
        """
        if self.shares_runs:
            self._graph_of(form)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise InvalidInput(f"this encoder of {self.folder.name} is closed. Load it again.")

    def close(self) -> None:
        """Release the memory; every view of the model then refuses to encode."""
        self._leave_parent()
        with self._lock:
            self._closed = True
            if self._runner is not None:
                self._runner.close()
            self._runner = None
            for recordings in filter(None, self._recordings.values()):
                recordings.close()
            self._recordings.clear()
            self.sessions.clear()
            self._views.clear()
            self._others.clear()
