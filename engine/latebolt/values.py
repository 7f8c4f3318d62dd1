"""The value that travels through the library: `TokenVectors`, a ragged float matrix. (`Hit`, the other, needs
no NumPy and lives in `hits`.)

It is checked once, where it is made, so that later stages may trust it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Bool, Float32, Int64
from latebolt.errors import InvalidInput
from latebolt.hits import Hit, Span

__all__ = ["Hit", "Span", "TokenVectors", "as_matrix", "as_token_vectors"]


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """Token vectors of several texts, rows of all texts back to back.

    Args:
        values: float32 [n_tokens, dim], C-contiguous. From an encoder: unit length.
        offsets: int64 [n_texts + 1], text i owns rows offsets[i]:offsets[i + 1]; starts at 0, never
            decreases, ends at n_tokens. A text may own no row.
        truncated: bool [n_texts], texts that were longer than the model reads, so that nothing stands for
            their ends; None for none.
    Raises:
        InvalidInput: the shapes or dtypes disagree with the above.
    """

    values: Float32
    offsets: Int64
    truncated: Bool | None = None

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        offsets = np.ascontiguousarray(self.offsets, dtype=np.int64)
        if values.ndim != 2:
            raise InvalidInput(f"TokenVectors.values should be [n_tokens, dim], got shape {values.shape}.")
        if offsets.ndim != 1 or offsets.size == 0 or offsets[0] != 0 or offsets[-1] != len(values):
            raise InvalidInput(
                f"TokenVectors.offsets should start at 0 and end at {len(values)} (the number of rows), "
                f"got {offsets[:1].tolist()} ... {offsets[-1:].tolist()} with shape {offsets.shape}."
            )
        if np.any(offsets[1:] < offsets[:-1]):
            raise InvalidInput("TokenVectors.offsets should never decrease.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "offsets", offsets)
        if self.truncated is not None:
            truncated = np.asarray(self.truncated, np.bool_)
            if truncated.shape != (len(self),):
                raise InvalidInput(
                    f"TokenVectors.truncated should be [{len(self)}], got shape {truncated.shape}."
                )
            object.__setattr__(self, "truncated", truncated if truncated.any() else None)

    @classmethod
    def from_matrices(
        cls,
        matrices: Sequence[npt.ArrayLike],
        dim: int | None = None,
        truncated: npt.ArrayLike | None = None,
    ) -> TokenVectors:
        """Join one [n_tokens, dim] matrix a text; `dim` is needed only when there are no matrices."""
        cut = None if truncated is None else np.asarray(truncated, np.bool_)
        arrays = [_floats(matrix, f"matrix {i}") for i, matrix in enumerate(matrices)]
        for i, array in enumerate(arrays):
            if array.ndim != 2 or array.shape[1] != arrays[0].shape[1]:
                raise InvalidInput(
                    f"matrix {i} should be [n_tokens, {arrays[0].shape[-1]}], got shape {array.shape}."
                )
        if not arrays:
            return cls(np.zeros((0, dim or 0), np.float32), np.zeros(1, np.int64), cut)
        lengths = [len(array) for array in arrays]
        return cls(np.concatenate(arrays), np.concatenate([[0], np.cumsum(lengths)]), cut)

    @property
    def dim(self) -> int:
        """Width of a token vector."""
        return int(self.values.shape[1])

    @property
    def n_tokens(self) -> int:
        """Rows over all texts."""
        return len(self.values)

    @property
    def lengths(self) -> Int64:
        """Int64 [n_texts], rows a text owns."""
        return np.diff(self.offsets)

    @property
    def n_truncated(self) -> int:
        """Texts whose end the model did not read; see `truncated`."""
        return 0 if self.truncated is None else int(np.count_nonzero(self.truncated))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, key: int) -> Float32: ...
    @overload
    def __getitem__(self, key: slice) -> TokenVectors: ...
    def __getitem__(self, key: int | slice) -> Float32 | TokenVectors:
        """`vectors[i]`: float32 [n_tokens, dim], a view. `vectors[a:b]`: TokenVectors, views for step 1."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            cut = None if self.truncated is None else self.truncated[key]
            if step != 1:
                return TokenVectors.from_matrices([self[i] for i in range(start, stop, step)], self.dim, cut)
            stop = max(start, stop)
            first, last = self.offsets[start], self.offsets[stop]
            return TokenVectors(self.values[first:last], self.offsets[start : stop + 1] - first, cut)
        position = range(len(self))[key]  # IndexError for a position that does not exist
        return self.values[self.offsets[position] : self.offsets[position + 1]]

    def __iter__(self) -> Iterator[Float32]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"TokenVectors({len(self)} texts, {self.n_tokens} tokens, dim {self.dim})"


def as_token_vectors(vectors: TokenVectors | Iterable[npt.ArrayLike], name: str, dim: int) -> TokenVectors:
    """Token vectors as callers have them: `TokenVectors`, or one [n_tokens, dim] array a text.

    Args:
        name: of the argument, for messages.
        dim: width where there is no text at all.
    Raises:
        InvalidInput: it is neither, or the arrays are no matrices of numbers of one width.
    """
    if isinstance(vectors, TokenVectors):
        return vectors if len(vectors) else TokenVectors.from_matrices([], dim)
    if isinstance(vectors, str | bytes | Mapping) or not isinstance(vectors, Iterable):
        raise InvalidInput(
            f"{name} should be TokenVectors or a list of arrays [n_tokens, dim], one a text, got "
            f"{type(vectors).__name__}. Texts are encoded first: encoder.encode_documents(texts)."
        )
    if isinstance(vectors, np.ndarray) and vectors.ndim != 3 and vectors.dtype != object:
        raise InvalidInput(
            f"{name} should have one array [n_tokens, dim] a text, got one array of shape {vectors.shape}. "
            "Put the token vectors of one text in a list."
        )
    try:
        return TokenVectors.from_matrices(list(vectors), dim)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None


def as_matrix(matrix: npt.ArrayLike, name: str) -> Float32:
    """The token vectors of one text as float32 [n_tokens, dim].

    Raises:
        InvalidInput: it is no matrix of numbers.
    """
    if isinstance(matrix, TokenVectors):
        raise InvalidInput(
            f"{name} should be the token vectors of one text, got those of {len(matrix)} texts. Take one: "
            "vectors[0]."
        )
    array = _floats(matrix, name)
    if array.ndim != 2:
        raise InvalidInput(f"{name} should be [n_tokens, dim], got shape {array.shape}.")
    return array


def _floats(matrix: npt.ArrayLike, name: str) -> Float32:
    if isinstance(matrix, str | bytes):
        raise InvalidInput(
            f"{name} should be a matrix [n_tokens, dim], got one {type(matrix).__name__}. Texts are encoded "
            "first: encoder.encode_queries([text])[0], encoder.encode_documents(texts)."
        )
    try:
        return np.asarray(matrix, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} should be a matrix of numbers [n_tokens, dim]: {error}.") from error
