"""`Checkpoint`: texts in, arrays of token vectors out, in the shapes that the Stanford library gives.

Source of the surface: colbert/modeling/checkpoint.py of colbert-ai 0.2.22. What a padded batch of it holds is
rebuilt here: the encoder keeps no vector of padding or of a skipped token, the library a row of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from latebolt.adapters.stanford.infra import BadArgument, ColBERTConfig
from latebolt.arrays import Float32
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import pool_tokens
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.onnx_runtime import onnxruntime

Tensors = Literal["numpy", "torch"]


def load_encoder(checkpoint: str | Encoder, config: ColBERTConfig | None = None) -> Encoder:
    """The encoder of a checkpoint with the lengths and the width that a config gives.

    Args:
        checkpoint: what `Encoder.load` takes, or an encoder; of the precisions it has, the fastest is used.
        config: only what was given in it counts.
    Raises:
        ModelError: there is no such model, or it has no head of that width.
        InvalidInput: the config contradicts what the model was trained with.
    """
    given = {} if config is None else {name: getattr(config, name) for name in config.assigned}
    dim = given.get("dim")
    if isinstance(checkpoint, Encoder):
        encoder = checkpoint if dim in (None, checkpoint.dim) else checkpoint.with_dim(dim)
    else:
        encoder = Encoder.load(checkpoint, dim=dim, device=gpu_or_cpu())
    expansion, skips = encoder.contract.query.expansion, bool(encoder.contract.document.skiplist)
    trained = {
        "attend_to_mask_tokens": expansion is not None and expansion.attend,
        "mask_punctuation": skips,
        "interaction": "colbert",
    }
    for name, value in trained.items():
        if given.get(name, value) != value:
            raise InvalidInput(
                f'{name} should be {value!r} for model "{encoder.model}", got {given[name]!r}. Leave '
                "it out, or export the checkpoint again with that setting in its artifact.metadata."
            )
    return encoder.with_lengths(given.get("query_maxlen"), given.get("doc_maxlen"))


def gpu_or_cpu() -> str:
    """The device that the library would take: the GPU where the installed runtime has one."""
    has_cuda = "CUDAExecutionProvider" in onnxruntime().get_available_providers()
    return "auto" if has_cuda else "cpu"


def as_tensors(array: npt.NDArray[Any], tensors: Tensors) -> Any:
    """The array, or a torch tensor over its memory.

    Raises:
        InvalidInput: neither "numpy" nor "torch" is asked for.
        RuntimeUnavailable: torch is not installed.
    """
    if tensors == "numpy":
        return array
    if tensors != "torch":
        raise InvalidInput(f'tensors should be "numpy" or "torch", got {tensors!r}.')
    try:
        import torch
    except ImportError as error:
        raise RuntimeUnavailable(
            'torch is not installed. Run "pip install torch", or use tensors="numpy".'
        ) from error
    return torch.from_numpy(array)


def stack(matrices: Sequence[Float32], rows: int, dim: int) -> Float32:
    """Float32 [n, rows, dim]: the matrices over zeros; all are as long as the longest, if that is more."""
    stacked = np.zeros((len(matrices), max([rows, *map(len, matrices)]), dim), np.float32)
    for target, matrix in zip(stacked, matrices, strict=True):
        target[: len(matrix)] = matrix
    return stacked


def check_list(texts: Any, name: str) -> list[str]:
    """The texts as a list.

    Raises:
        BadArgument: they are neither list nor tuple.
    """
    if not isinstance(texts, list | tuple):
        raise BadArgument(f"{name} should be a list or tuple of str, got {type(texts).__name__}.")
    return list(texts)


class Checkpoint:
    """A late-interaction model behind the library's interface.

    Args:
        name: "starter", an exported folder, a hub id, or an `Encoder`.
        colbert_config: lengths (`query_maxlen`, `doc_maxlen`) and width (`dim`); what is not given is the
            model's.
        verbose: accepted; nothing is printed.
        tensors: "numpy" or "torch", what comes out.
    Raises:
        ModelError: there is no such model, or it has no head of that width.
        InvalidInput: the config contradicts what the model was trained with.
    """

    def __init__(
        self,
        name: str | Encoder,
        colbert_config: ColBERTConfig | None = None,
        verbose: int = 3,
        *,
        tensors: Tensors = "numpy",
    ) -> None:
        as_tensors(np.zeros(0), tensors)  # refuse now rather than after the first batch
        self.encoder = load_encoder(name, colbert_config)
        self.name, self.verbose, self.tensors = self.encoder.model, verbose, tensors
        told = ColBERTConfig.load_from_checkpoint(self.encoder.model)
        told.configure(dim=self.encoder.dim)
        self.colbert_config = ColBERTConfig.from_existing(told, colbert_config)
        self.query_tokenizer, self.doc_tokenizer = QueryTokenizer(self), DocTokenizer(self)

    def cuda(self) -> Checkpoint:
        """Itself: the device was chosen when it was loaded."""
        return self

    cpu = eval = cuda

    def queryFromText(  # noqa: N802 - theirs
        self,
        queries: Sequence[str],
        bsize: int | None = None,
        to_cpu: bool = False,
        context: Sequence[str] | None = None,
        full_length_search: bool = False,
    ) -> Any:
        """Token vectors of queries.

        Args:
            queries: a list of str.
            bsize, to_cpu: accepted; vectors do not depend on batches, and are on the CPU.
            context: texts behind the queries, which this encoder does not take.
            full_length_search: cut queries only at the model's limit, also several in one call.
        Returns:
            Float32 [n, query_maxlen, dim]; as long as the longest query with full_length_search, or where the
            model does not expand queries; rows of zeros behind shorter ones, which add nothing to a score.
        Raises:
            BadArgument: no list.
            InvalidInput: a query is no str, or there is a context.
        """
        if context is not None:
            raise InvalidInput("context is not supported. Put what should be searched for into the query.")
        texts = check_list(queries, "queries")
        vectors = self.encoder.encode_queries(texts, full_length=full_length_search)
        rows = 0 if self.encoder.contract.query.expansion is None else self.encoder.contract.query.max_tokens
        return as_tensors(stack(list(vectors), rows, self.encoder.dim), self.tensors)

    def docFromText(  # noqa: N802 - theirs
        self,
        docs: Sequence[str],
        bsize: int | None = None,
        keep_dims: bool | Literal["flatten"] = True,
        to_cpu: bool = False,
        showprogress: bool = False,
        return_tokens: bool = False,
        pool_factor: int = 1,
        protected_tokens: int = 0,
        clustering_mode: str = "hierarchical",
    ) -> Any:
        """Token vectors of documents.

        Args:
            docs: a list of str.
            bsize: its value changes nothing; with one, a tuple comes back.
            keep_dims: True: one array [n, longest, dim] in which padding and skipped tokens (punctuation) are
                rows of zeros. False: a list of [n_kept, dim]. "flatten" (needs bsize): the rows of all
                documents back to back, and how many each has.
            showprogress: a bar on stderr.
            return_tokens: with bsize, give also the token ids, an int64 array a document, padded where
                keep_dims is True.
            pool_factor: with "flatten", keep about 1 / pool_factor of the vectors; see `pool_tokens`, whose
                means have unit length, unlike the library's.
            protected_tokens: the first so many rows of a document are not pooled.
        Returns:
            Without bsize the array or list, with it `(array, [ids])`, `(list, [ids])` or
            `(rows, lengths, [ids])`, the ids only where asked for.
        Raises:
            BadArgument: no list, or no such keep_dims or clustering_mode.
            InvalidInput: a document is no str.
        """
        texts = check_list(docs, "docs")
        if keep_dims not in (True, False, "flatten"):
            raise BadArgument(f'keep_dims should be True, False or "flatten", got {keep_dims!r}.')
        if keep_dims == "flatten" and not bsize:
            raise BadArgument('keep_dims="flatten" needs bsize, for instance bsize=32.')
        if clustering_mode != "hierarchical":
            raise BadArgument(f'clustering_mode should be "hierarchical", got {clustering_mode!r}.')
        vectors = list(self.encoder.encode_documents(texts, show_progress=showprogress))
        tokens = self.encoder.tokenize(texts, "document") if keep_dims is True or return_tokens else []
        ids: list[npt.NDArray[np.int64]] = [each.ids for each in tokens]
        result: list[Any]
        if keep_dims == "flatten":
            pooled = [pool_tokens(matrix, pool_factor, protected_tokens) for matrix in vectors]
            rows = np.concatenate([np.zeros((0, self.encoder.dim), np.float32), *pooled])
            result = [as_tensors(rows, self.tensors), [len(matrix) for matrix in pooled]]
        elif keep_dims:
            longest = max(map(len, ids), default=0)
            spread = np.zeros((len(texts), longest, self.encoder.dim), np.float32)
            for target, token, matrix in zip(spread, tokens, vectors, strict=True):
                target[: len(token.ids)][... if token.keep is None else token.keep] = matrix
            pad = self.encoder.contract.frame.pad
            ids = [np.pad(each, (0, longest - len(each)), constant_values=pad) for each in ids]
            result = [as_tensors(spread, self.tensors)]
        else:
            result = [[as_tensors(matrix, self.tensors) for matrix in vectors]]
        if not bsize:
            return result[0]
        if return_tokens:
            result.append([as_tensors(each, self.tensors) for each in ids])
        return tuple(result)


class QueryTokenizer:
    """The length of a checkpoint's queries, which may be set."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def query_maxlen(self) -> int:
        """Tokens of a query, markers included."""
        return self._checkpoint.encoder.contract.query.max_tokens

    @query_maxlen.setter
    def query_maxlen(self, length: int) -> None:
        self._checkpoint.encoder = self._checkpoint.encoder.with_lengths(query=length)


class DocTokenizer:
    """The length of a checkpoint's documents, which may be set."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def doc_maxlen(self) -> int:
        """Tokens of a document, markers included."""
        return self._checkpoint.encoder.contract.document.max_tokens

    @doc_maxlen.setter
    def doc_maxlen(self, length: int) -> None:
        self._checkpoint.encoder = self._checkpoint.encoder.with_lengths(document=length)
