"""sentence-transformers: a `MultiVectorEncoder` with its methods, without sentence-transformers and torch.

The surface is that of sentence-transformers 6.2. Vectors are NumPy arrays; torch tensors where they are asked
for, which needs torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from latebolt.adapters.opened import encoder_of
from latebolt.adapters.settings import refuse_unknown, settings_of
from latebolt.arrays import Float32
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.scoring import maxsim
from latebolt.values import TokenVectors

Matrices = Any  # a list of [tokens, dim], one [tokens, dim], or a padded [n, tokens, dim]; arrays or tensors

SIMILARITIES: Final = ("maxsim", "meanmaxsim")
_EMPTY_DOCUMENT: Final = -1e9  # sentence-transformers' score of a document without tokens: below any other

logger = logging.getLogger(__name__)


class MultiVectorEncoder:
    """Queries and documents to one vector a token, and their MaxSim.

    Markers, lengths and query expansion are the model's own, whatever prompt is given.

    Args:
        model_name_or_path: "starter", an exported folder, a hub id, or an `Encoder`.
        device: "cpu", "cuda", "cuda:N" or "auto".
        prompts: texts that the methods put before their inputs, by name; "query" and "document" are used
            without being asked for.
        default_prompt_name: the one that `encode` uses by itself.
        similarity_fn_name: "maxsim", or "meanmaxsim", divided by the query's tokens.
        convert_to_tensor: give torch tensors by default, as sentence-transformers does and its evaluators
            need it.
        trust_remote_code, backend: have no effect: no code of a model is run, and ONNX Runtime is what runs.
        precision, dim, threads: see `Encoder.load`.
    """

    def __init__(
        self,
        model_name_or_path: Encoder | str | Path = "starter",
        *,
        device: str | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        convert_to_tensor: bool = False,
        trust_remote_code: bool = False,
        backend: str = "onnx",
        precision: str | None = None,
        dim: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.encoder = (
            Encoder.load(model_name_or_path, precision, dim, device or "cpu", threads)
            if isinstance(model_name_or_path, str | Path)
            else encoder_of(model_name_or_path)
        )
        self.prompts = {"query": "", "document": ""} | (prompts or {})
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            raise InvalidInput(
                f"default_prompt_name should be one of the prompts {list(self.prompts)}, "
                f"got {default_prompt_name!r}."
            )
        self.default_prompt_name = default_prompt_name
        self.similarity_fn_name = similarity_fn_name or "maxsim"
        self._tensors = convert_to_tensor
        self.model_card_data = _NoCard()

    def __repr__(self) -> str:
        return f"MultiVectorEncoder({self.encoder!r})"

    @property
    def device(self) -> str:
        """Where the model runs, as a str; torch.device(...) takes it."""
        return self.encoder.device

    @property
    def max_seq_length(self) -> int:
        """Tokens of a document, markers included, that the model reads."""
        return int(self.encoder.contract.document.max_tokens)

    def get_max_seq_length(self) -> int:
        """See `max_seq_length`."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int:
        """Width of a token's vector."""
        return self.encoder.dim

    def get_backend(self) -> str:
        """ "onnx"."""
        return "onnx"

    @property
    def similarity_fn_name(self) -> str:
        """ "maxsim" or "meanmaxsim"."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str) -> None:
        name = getattr(value, "value", value)  # sentence-transformers' own is an enum
        if name not in SIMILARITIES:
            raise InvalidInput(f"similarity_fn_name should be one of {SIMILARITIES}, got {value!r}.")
        self._similarity_fn_name = name

    def encode_query(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        **settings: Any,
    ) -> Any:
        """`encode` as queries, by default with the "query" prompt."""
        refuse_unknown(settings, _OF_ENCODE, "encode_query")
        if prompt_name is None and prompt is None:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, task="query", **settings)

    def encode_document(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        **settings: Any,
    ) -> Any:
        """`encode` as documents, by default with the "document" prompt."""
        refuse_unknown(settings, _OF_ENCODE, "encode_document")
        if prompt_name is None and prompt is None:
            prompt_name = "document"
        return self.encode(inputs, prompt_name, prompt, task="document", **settings)

    def encode(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "token_embeddings",
        convert_to_numpy: bool | None = None,
        device: str | None = None,
        normalize_embeddings: bool = False,
        pool: Any = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        *,
        task: str | None = None,
        convert_to_tensor: bool | None = None,
        pool_factor: int = 1,
    ) -> Any:
        """Vectors of each text's tokens, of unit length, in input order.

        Args:
            inputs: one text, or several.
            prompt_name: which of `prompts` to put before each text.
            prompt: a text to put before each instead.
            show_progress_bar: a bar on stderr (of documents); by default where logging is at INFO.
            convert_to_numpy, convert_to_tensor: NumPy arrays or torch tensors; arrays by default.
            token_pooling: one of sentence-transformers' (needs it and torch).
            task: "query" or "document"; None is taken as "document".
            pool_factor: keep about 1 / pool_factor of a document's vectors.
            batch_size, pool, chunk_size, normalize_embeddings: have no effect: texts run one by one on all
                threads, and vectors have length 1 already.
            device: the one of the model, or None.
        Returns:
            A float32 [tokens, dim] a text: a list, or one matrix for one text.
        Raises:
            InvalidInput: (a ValueError) an argument that does not fit, or an input that is not a str.
            RuntimeUnavailable: tensors are asked for and torch is not installed.
        """
        if batch_size <= 0:
            raise InvalidInput(f"batch_size must be a positive integer, got {batch_size}.")
        if output_value != "token_embeddings":
            raise InvalidInput(f'output_value should be "token_embeddings", got {output_value!r}.')
        if task not in ("query", "document", None):
            raise InvalidInput(f'task should be "query" or "document", got {task!r}.')
        if device is not None and str(device) != self.encoder.device:
            raise InvalidInput(
                f"device should be the model's, {self.encoder.device!r}, got {device!r}. "
                "Choose it when the model is loaded: MultiVectorEncoder(..., device=...)."
            )
        tensors = self._wants_tensors(convert_to_numpy, convert_to_tensor)
        before = self._prompt(prompt_name, prompt)
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        if before:
            texts = [before + text if isinstance(text, str) else text for text in texts]
        if task == "query":
            vectors = self.encoder.encode_queries(texts)
        else:
            shown = logger.isEnabledFor(logging.INFO) if show_progress_bar is None else show_progress_bar
            vectors = self.encoder.encode_documents(texts, shown, pool_factor)
        found: list[Any] = list(vectors)
        if token_pooling is not None:
            found = token_pooling.pool([_tensor(matrix) for matrix in found], task=task)
            found = found if tensors else [_array(matrix) for matrix in found]
        elif tensors:
            found = [_tensor(matrix) for matrix in found]
        return found[0] if isinstance(inputs, str) else found

    def _wants_tensors(self, to_numpy: bool | None, to_tensor: bool | None) -> bool:
        if to_numpy is None and to_tensor is None:
            return self._tensors
        if to_numpy and to_tensor:
            raise InvalidInput("convert_to_numpy and convert_to_tensor cannot both be True.")
        return bool(to_tensor) or to_numpy is False

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is not None and name not in self.prompts:
            raise InvalidInput(
                f"Prompt name '{name}' not found in the configured prompts dictionary with keys "
                f"{list(self.prompts)!r}."
            )
        return "" if name is None else self.prompts[name]

    def similarity(
        self,
        embeddings1: Matrices,
        embeddings2: Matrices,
        *,
        length_normalize: bool | None = None,
        chunk_elements: int | None = None,
        device: Any = None,
    ) -> Any:
        """MaxSim of every query with every document.

        Args:
            embeddings1, embeddings2: queries and documents: lists of [tokens, dim], one [tokens, dim], or a
                padded [n, tokens, dim], whose rows of zeros are left out.
            length_normalize: divide by the query's tokens; by default where the model's similarity is
                "meanmaxsim".
            chunk_elements, device: have no effect: nothing is padded, and scores are computed on the CPU.
        Returns:
            Float32 [n_queries, n_documents]: an array, or a tensor where one of the two holds tensors. A
            document without tokens scores -1e9, below any other.
        Raises:
            InvalidInput: widths differ, or a matrix is none.
        """
        queries, documents = _matrices(embeddings1, "embeddings1"), _matrices(embeddings2, "embeddings2")
        scores = np.zeros((len(queries), len(documents)), np.float32)
        if queries and documents:
            vectors = TokenVectors.from_matrices(documents)
            for n, query in enumerate(queries):
                scores[n] = maxsim(query, vectors) / self._divisor(query, length_normalize)
            scores[:, vectors.lengths == 0] = _EMPTY_DOCUMENT
        return _tensor(scores) if _has_tensors(embeddings1) or _has_tensors(embeddings2) else scores

    def similarity_pairwise(
        self,
        embeddings1: Matrices,
        embeddings2: Matrices,
        *,
        length_normalize: bool | None = None,
        chunk_elements: int | None = None,
        device: Any = None,
    ) -> Any:
        """MaxSim of each query with the document at its position: float32 [n]; see `similarity`.

        Raises:
            InvalidInput: there are not as many of one as of the other.
        """
        queries, documents = _matrices(embeddings1, "embeddings1"), _matrices(embeddings2, "embeddings2")
        if len(queries) != len(documents):
            raise InvalidInput(
                "embeddings1 and embeddings2 must hold the same number of items to score as pairs, "
                f"got {len(queries)} and {len(documents)}."
            )
        scores = np.zeros(len(queries), np.float32)
        for n, (query, document) in enumerate(zip(queries, documents, strict=True)):
            if len(document) == 0:
                scores[n] = _EMPTY_DOCUMENT
            else:
                one = TokenVectors.from_matrices([document])
                scores[n] = maxsim(query, one)[0] / self._divisor(query, length_normalize)
        return _tensor(scores) if _has_tensors(embeddings1) or _has_tensors(embeddings2) else scores

    def _divisor(self, query: Float32, length_normalize: bool | None) -> int:
        divide = self.similarity_fn_name == "meanmaxsim" if length_normalize is None else length_normalize
        return max(len(query), 1) if divide else 1

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """What one of sentence-transformers' evaluators finds; load the model with convert_to_tensor=True."""
        if output_path is not None:
            Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    def start_multi_process_pool(self, target_devices: Sequence[str] | None = None) -> dict[str, Any]:
        """An empty pool, so that scripts which start one run: the threads of this process do the work."""
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: dict[str, Any]) -> None:
        """Nothing: there is nothing to stop."""


_OF_ENCODE: Final = settings_of(MultiVectorEncoder.encode, "inputs", "prompt_name", "prompt", "task")


class _NoCard:
    """Where sentence-transformers' evaluators write their figures for a model card; there is none here."""

    def set_evaluation_metrics(self, *_: Any) -> None: ...


def _tensor(matrix: Any) -> Any:
    try:
        torch = import_module("torch")  # only where a caller wants tensors
    except ImportError as error:
        raise RuntimeUnavailable(
            'torch is not installed, and tensors need it. Run "pip install torch".'
        ) from error
    return torch.as_tensor(np.array(matrix))  # a copy: a tensor may be written to


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _has_tensors(given: Matrices) -> bool:
    return _is_tensor(given) or (isinstance(given, list | tuple) and any(map(_is_tensor, given)))


def _array(value: Any) -> Float32:
    if _is_tensor(value):
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, np.float32)


def _matrices(given: Matrices, name: str) -> list[Float32]:
    if isinstance(given, TokenVectors):
        return list(given)
    if isinstance(given, np.ndarray) or _is_tensor(given):
        whole = _array(given)
        if whole.ndim == 2:
            return [whole]
        if whole.ndim == 3:
            return [rows[rows.any(axis=1)] for rows in whole]
        raise InvalidInput(f"{name} should be [tokens, dim] or [n, tokens, dim], got shape {whole.shape}.")
    arrays = [_array(each) for each in given]
    for n, array in enumerate(arrays):
        if array.ndim != 2:
            raise InvalidInput(f"{name}[{n}] should be [tokens, dim], got shape {array.shape}.")
    return arrays
