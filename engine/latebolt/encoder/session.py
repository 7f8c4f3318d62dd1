"""One ONNX Runtime session over one graph: providers, threads, memory, named inputs and outputs.

Takes token ids, gives token vectors; knows nothing of texts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.contract import Graph, Head
from latebolt.devices import CPU, CUDA_PROVIDER, Device
from latebolt.errors import ModelError, OutOfMemory, RuntimeUnavailable
from latebolt.onnx_runtime import is_failure_of_device, is_out_of_memory, onnxruntime

_IDS, _MASK = "input_ids", "attention_mask"
_TYPES = "token_type_ids"  # taken where a graph asks for them; zeros for a single text
_KEPT = "kept"  # of graphs for GPUs: the places of the tokens whose vectors are wanted

# Runs longer than this give their memory back, or one long document would set the size for good.
_LONG_TOKENS = 1024
_LEAST_NORM = np.float32(1e-12)

_TOO_LITTLE = "there is not enough memory"
# What to do about it, in messages.
WAYS_TO_NEED_LESS = (
    "Give the process more, or let it need less: threads=1 (--threads 1), shorter texts (passage_tokens of "
    'the index), the model "starter" instead of a larger one.'
)
WAYS_TO_NEED_LESS_ON_A_GPU = (
    'Let other programs leave the GPU ("nvidia-smi" lists them) or take another one ("cuda:1"), or let it '
    'need less: shorter texts (passage_tokens of the index), the model "starter" instead of a larger one.'
)


def why_no_gpu(number: int, said: str = "") -> str:
    """Why ONNX Runtime runs nothing on this GPU, and the way out: what `latebolt doctor` says, too.

    Args:
        said: by ONNX Runtime, if anything.
    """
    from latebolt.gpu.finding import explain  # reads wheels, driver and libraries, once something has failed

    return explain(number, said)


class Session:
    """A loaded graph. `run` may be called from several threads at once."""

    def __init__(
        self,
        file: Path,
        graph: Graph,
        head: Head,
        threads: int,
        device: Device = CPU,
        records: bool = False,  # CUDA graphs, see `fixed`
    ) -> None:
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Shapes vary with every text: planning memory per shape would keep a plan for each length.
        options.enable_mem_pattern = False
        # Idle workers must not spin on the cores that the kernels and the other sessions use.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._device = device
        providers: list[Any] = ["CPUExecutionProvider"]
        if not device.is_cpu:
            from latebolt.gpu.finding import make_ready

            make_ready()
            # float32 means float32: TF32 would round every factor to 10 bits.
            cuda = {"device_id": device.number, "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
            if records:
                cuda["enable_cuda_graph"] = "1"
            providers.insert(0, (CUDA_PROVIDER, cuda))
        try:
            self._session = ort.InferenceSession(str(file), options, providers=providers)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory(f"{file}: {self._too_little} to load it. {self._ways_out}") from error
            reason = str(error).strip().splitlines()[0]
            if is_failure_of_device(error):
                raise RuntimeUnavailable(
                    f'device "cuda:{device.number}": {why_no_gpu(device.number, reason)}'
                ) from error
            raise ModelError(
                f"{file}: ONNX Runtime cannot load it ({reason}). Export or download it again."
            ) from error
        if not device.is_cpu and CUDA_PROVIDER not in self._session.get_providers():
            raise RuntimeUnavailable(f'device "cuda:{device.number}": {why_no_gpu(device.number)}')
        self._file, self._dim, self._normalised = file, head.dim, graph.normalised
        self._inputs = self._check_inputs()
        self._output = self._output_of(head)
        self._shrink = ort.RunOptions()
        arena = "cpu:0" if device.is_cpu else f"gpu:{device.number}"
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)

    def at(self, head: Head) -> Session:
        """The same loaded graph, giving another of its outputs."""
        other = copy.copy(self)
        other._dim = head.dim
        other._output = other._output_of(head)
        return other

    @property
    def _too_little(self) -> str:
        return _TOO_LITTLE if self._device.is_cpu else f"{_TOO_LITTLE} on cuda:{self._device.number}"

    @property
    def _ways_out(self) -> str:
        return WAYS_TO_NEED_LESS if self._device.is_cpu else WAYS_TO_NEED_LESS_ON_A_GPU

    @property
    def providers(self) -> list[str]:
        """Execution providers in use, first choice first."""
        return list(self._session.get_providers())

    def _check_inputs(self) -> frozenset[str]:
        """The names of what the graph takes: ids and mask, and perhaps token types. A graph for GPUs takes
        `kept`, too, and where it is for texts of one length no mask."""
        kinds = {node.name: node.type for node in self._session.get_inputs()}
        needed = {_IDS} if _KEPT in kinds else {_IDS, _MASK}
        if not needed <= kinds.keys() <= {_IDS, _MASK, _TYPES, _KEPT} or set(kinds.values()) != {
            "tensor(int64)"
        }:
            got = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise ModelError(
                f"{self._file}: its inputs should be input_ids and attention_mask, tensor(int64), got {got}. "
                f'Make a model of the checkpoint with "latebolt export".'
            )
        return frozenset(kinds)

    def _output_of(self, head: Head) -> str:
        """The name of the head's output: the one it names, or the first [batch, tokens, dim] of its width."""
        nodes = self._session.get_outputs()
        if head.output:
            names = [node.name for node in nodes]
            if head.output not in names:
                raise ModelError(
                    f'{self._file}: has no output "{head.output}", only {", ".join(names)}. Export it again.'
                )
            return head.output
        # A width that is not written in the graph is a word or None here; `run` sees what it is.
        fits = [node for node in nodes if len(node.shape) == 3 and node.shape[2] == head.dim]
        fits += [node for node in nodes if len(node.shape) == 3 and not isinstance(node.shape[2], int)]
        if not fits:
            raise self._wrong_width(", ".join(f"{node.name} {node.shape}" for node in nodes))
        return str(fits[0].name)

    def _wrong_width(self, got: str) -> ModelError:
        return ModelError(
            f"{self._file}: its output should be [batch, tokens, {self._dim}], got {got}. The graph lacks "
            f'its projection; make a model of the checkpoint with "latebolt export".'
        )

    def run(self, ids: Int64, attended: int) -> npt.NDArray[np.float32]:
        """Token vectors of one text.

        Args:
            ids: int64 [n].
            attended: the first so many tokens may be attended to.
        Returns:
            float32 [n, dim], unit length.
        Raises:
            ModelError: the graph's output is not as wide as its folder says.
            OutOfMemory: there is not enough for a text of so many tokens.
        """
        mask = np.ones((1, len(ids)), np.int64)
        mask[0, attended:] = 0
        return self.run_batch(ids[None, :], mask)

    def run_batch(self, ids: Int64, mask: Int64 | None, kept: Int64 | None = None) -> npt.NDArray[np.float32]:
        """Token vectors of texts that share a run.

        Args:
            ids: int64 [rows, tokens], filled up on the right.
            mask: int64 [rows, tokens], ones for the tokens that may be attended to, then zeros; None where
                all may.
            kept: int64 [n_kept], places row * tokens + column of the tokens whose vectors are wanted; all
                for None. A graph without padding has none for tokens that are masked.
        Returns:
            float32 [n_kept, dim], unit length.
        Raises:
            ModelError: the graph's output is not as wide as its folder says.
            OutOfMemory: there is not enough for so many tokens.
        """
        if kept is not None and not kept.size:  # of which not every operator of a head makes nothing
            return np.zeros((0, self._dim), np.float32)
        feeds, options = self._feeds(ids, mask, kept)
        try:
            if self._device.is_cpu:
                values = self._session.run([self._output], feeds, options)[0]
            else:
                values = self._run_bound(feeds, options).copy_outputs_to_cpu()[0]
        except Exception as error:
            self._refuse_if_too_large(ids, error)
            raise
        self._check_shape(values.shape, feeds)
        vectors = values.reshape(-1, self._dim)
        return self._finish(vectors if kept is None or _KEPT in feeds else vectors[kept])

    def run_staying(self, ids: Int64, mask: Int64 | None, kept: Int64) -> tuple[Any, Int64 | None]:
        """`run_batch` whose token vectors stay on the device, as the graph gives them.

        Only of a graph that gives unit length itself.

        Returns:
            An onnxruntime.OrtValue [.., dim], and int64 [n_kept], the wanted ones of its rows one behind the
            other; None for all.
        """
        feeds, options = self._feeds(ids, mask, kept)
        try:
            values = self._run_bound(feeds, options).get_outputs()[0]
        except Exception as error:
            self._refuse_if_too_large(ids, error)
            raise
        self._check_shape(tuple(values.shape()), feeds)
        return values, None if _KEPT in feeds else kept

    def fixed(self, tokens: int, number: int) -> Callable[[Int64, Int64], npt.NDArray[np.float32]]:
        """The run of one text of so many tokens between buffers that stay, which a session that records
        replays from the second time on.

        Args:
            number: of the recording, from 1 on.
        Returns:
            Makes float32 [tokens, dim] of ids and mask, int64 [1, tokens] each; see `recordings`.
        """
        from latebolt.encoder.recordings import FixedRun

        feeds, _ = self._feeds(np.zeros((1, tokens), np.int64), np.ones((1, tokens), np.int64), None)
        fixed = FixedRun(self._session, feeds, (self._output, (1, tokens, self._dim)), self._device, number)

        def run(ids: Int64, mask: Int64) -> npt.NDArray[np.float32]:
            return self._finish(fixed.replay({_IDS: ids, _MASK: mask})[0])

        return run

    def _feeds(self, ids: Int64, mask: Int64 | None, kept: Int64 | None) -> tuple[dict[str, Int64], Any]:
        """What the graph takes for the arguments of `run_batch`, and options of the run."""
        feeds = {_IDS: ids}
        if _MASK in self._inputs:
            feeds[_MASK] = np.ones_like(ids) if mask is None else mask
        elif mask is not None and not mask.all():
            raise ValueError(f"{self._file}: takes no mask, so texts of one run have to have one length.")
        if _TYPES in self._inputs:
            feeds[_TYPES] = np.zeros_like(ids)
        if _KEPT in self._inputs:
            feeds[_KEPT] = np.arange(ids.size) if kept is None else kept
        return feeds, self._shrink if len(ids) == 1 and ids.size > _LONG_TOKENS else None

    def _refuse_if_too_large(self, ids: Int64, error: Exception) -> None:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"{self._file}: {self._too_little} for {_size(ids)}. {self._ways_out}"
            ) from error

    def _check_shape(self, got: tuple[int, ...], feeds: dict[str, Int64]) -> None:
        shape = (1, feeds[_KEPT].size) if _KEPT in feeds else feeds[_IDS].shape
        if got != (*shape, self._dim):
            raise self._wrong_width(f"{self._output} {list(got)}")

    def _run_bound(self, feeds: dict[str, Int64], options: Any) -> Any:
        """The binding of a run whose output stays on the device until it is complete.

        Source: onnxruntime.ai/docs/performance/tune-performance/iobinding.html. Inputs are copied to the
        device as they are bound. A binding belongs to one run, so that several threads may run at once.
        """
        binding = self._session.io_binding()
        for name, values in feeds.items():
            binding.bind_cpu_input(name, values)
        binding.bind_output(self._output, self._device.kind, self._device.number)
        self._session.run_with_iobinding(binding, options)
        return binding

    def _finish(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The output of a run as float32 of unit length."""
        vectors = values.astype(np.float32, copy=False)
        if self._normalised:
            return vectors
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST_NORM))


def _size(ids: Int64) -> str:
    rows, tokens = ids.shape
    return f"a text of {tokens} tokens" if rows == 1 else f"{rows} texts of up to {tokens} tokens"
