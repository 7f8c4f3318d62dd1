"""A document vector that is learned, in the manner of LEMUR: a query's token vectors go through a small
network each, their sum is the query's vector, and its dot product with a document's predicts their MaxSim.

Of a token vector x, the similarity with the nearest token of document j is g_j(x). MaxSim is the sum of g_j
over the query's tokens, so that a linear form of features, g_j(x) = w_j . f(x), makes it one dot product of
w_j with the sum of f(x). The features f, a layer of rectified units, are trained to predict g of some
documents. Then w_j of any document is had in closed form, by least squares over a sample of token vectors.

Source: "LEMUR: Learned multi-vector retrieval", arXiv 2601.21853. NumPy alone, and the same numbers with each
run on a machine.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.adapters.stages.base import Stage
from latebolt.arrays import Float32
from latebolt.errors import InvalidInput
from latebolt.values import TokenVectors

FEATURES: Final = 1024
SAMPLE: Final = 4096  # token vectors of the least squares
_TRAINED: Final = 8192  # token vectors that the features are trained on
_TARGETS: Final = 192  # documents whose similarities they are trained to predict
_LEAST_DOCUMENTS: Final = 64
_EPOCHS: Final = 16
_BATCH: Final = 256
_RATE: Final = 2e-3
_TOGETHER: Final = 32  # documents whose similarities are held at a time: 80 MB at 150 tokens each
# Multiplications of a product that OpenBLAS does in the thread that asks. A query's is small, and waiting for
# other threads takes some hundred times as long where the processors have other work.
_SMALL: Final = 1 << 18
_RIDGE: Final = 3e-3  # of the mean square of a feature
# What a record may hold; 1,024 features of 128 dimensions take 140 kB.
_MOST_FEATURES: Final = 4096
_MOST_DIM: Final = 4096


@dataclass(frozen=True, eq=False)
class LearnedStage(Stage):
    """Features and, where documents are to be added, the sample that their vectors are solved on.

    Args:
        weights: int8 [dim, n], of n rectified units; a further feature is 1 always.
        scales: float32 [n], a weight is its code times its unit's.
        biases: float32 [n].
        sample: float32 [n_sample, dim], token vectors of documents; None for searches alone.
    """

    weights: npt.NDArray[np.int8]
    scales: Float32
    biases: Float32
    sample: Float32 | None = None
    kind = "learned"
    is_cosine = False

    @property
    def size(self) -> int:  # type: ignore[override]
        """See `Stage`."""
        return int(self.weights.shape[1]) + 1

    @property
    def dim(self) -> int:
        """Width of the token vectors that it takes."""
        return int(self.weights.shape[0])

    @property
    def name(self) -> str:
        """See `Stage`."""
        return f"{self.kind}/{self._digest}"

    @classmethod
    def fit(
        cls,
        documents: TokenVectors,
        queries: TokenVectors | None = None,
        features: int = FEATURES,
        seed: int = 0,
    ) -> LearnedStage:
        """Train features on documents, of which 64 at least have token vectors.

        Args:
            documents: a fair sample of a corpus, some hundred or thousand.
            queries: of the same kind as those to come; half of the training is on their tokens.
            features: values of a vector, 2 to 4,096.
        Raises:
            InvalidInput: too few documents, or a number of features that there cannot be.
        """
        filled = np.flatnonzero(documents.lengths)
        if len(filled) < _LEAST_DOCUMENTS:
            raise InvalidInput(
                f"a learned first stage is fitted on {_LEAST_DOCUMENTS} documents with token vectors at "
                f'least, got {len(filled)}. Use "mean" or "pooled".'
            )
        if isinstance(features, bool) or not isinstance(features, int) or not 2 <= features <= _MOST_FEATURES:
            raise InvalidInput(f"features should be 2 to {_MOST_FEATURES}, got {features!r}.")
        random = np.random.default_rng(seed)
        sample = _some(random, documents.values, SAMPLE)
        trained = _some(random, documents.values, _TRAINED)
        if queries is not None and queries.n_tokens:
            half = _TRAINED // 2
            trained = np.concatenate([trained[:half], _some(random, queries.values, half)])
        chosen = np.sort(random.permutation(filled)[:_TARGETS])
        targets = TokenVectors.from_matrices([documents[int(i)] for i in chosen])
        weights, biases = _train(random, trained, nearest(trained, targets), features - 1)
        scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / np.float32(127)
        codes = np.rint(weights / scales).astype(np.int8)
        return cls(codes, scales.astype(np.float32), biases, sample)

    def with_sample(self, documents: TokenVectors, seed: int = 0) -> LearnedStage:
        """The same features, for vectors of documents: solved on token vectors of these."""
        if documents.dim != self.dim or not documents.n_tokens:
            raise InvalidInput(
                f"a learned first stage needs token vectors of size {self.dim}, got {documents.n_tokens} of "
                f"{documents.dim}."
            )
        sample = _some(np.random.default_rng(seed), documents.values, SAMPLE)
        return LearnedStage(self.weights, self.scales, self.biases, sample)

    def features_of(self, matrix: Float32) -> Float32:
        """Float32 [n, size] of token vectors [n, dim]."""
        units = matrix @ self._floats
        units += self.biases
        np.maximum(units, 0, out=units)
        return np.concatenate([units, np.ones((len(matrix), 1), np.float32)], axis=1)

    def of_documents(self, matrices: Sequence[Float32]) -> list[Float32]:
        """See `Stage`.

        Raises:
            InvalidInput: there is no sample.
        """
        sample, solver = self._solver
        made: list[Float32] = []
        for start in range(0, len(matrices), _TOGETHER):
            some = TokenVectors.from_matrices(matrices[start : start + _TOGETHER])
            made += list((solver @ nearest(sample, some)).T)
        return made

    def of_query(self, matrix: Float32) -> Float32:
        """See `Stage`."""
        width = max(16, _SMALL // matrix.size)
        made = np.ones(self.size, np.float32)
        made[-1] = len(matrix)
        for start in range(0, self.size - 1, width):
            some = slice(start, min(start + width, self.size - 1))
            units = matrix @ self._floats[:, some] + self.biases[some]
            made[some] = np.maximum(units, 0).sum(axis=0, dtype=np.float32)
        return made

    @cached_property
    def _floats(self) -> Float32:
        return np.asarray(self.weights * self.scales, np.float32)

    @cached_property
    def _solver(self) -> tuple[Float32, Float32]:
        """The sample, and what makes a document's vector of its similarities with it: [size, n_sample]."""
        if self.sample is None:
            raise InvalidInput(
                "a learned first stage that was read back makes no vectors of documents: it has no sample of "
                'token vectors. Use "latebolt push", or with_sample.'
            )
        features = self.features_of(self.sample).astype(np.float64)
        gram = features.T @ features
        gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
        return self.sample, np.linalg.solve(gram, features.T).astype(np.float32)

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.blake2b(digest_size=16)
        for part in self._parts():
            hasher.update(part)
        return hasher.hexdigest()

    def _parts(self) -> tuple[bytes, bytes, bytes]:
        return (
            np.ascontiguousarray(self.weights).tobytes(),
            self.scales.astype("<f4").tobytes(),
            self.biases.astype("<f4").tobytes(),
        )

    def record(self) -> dict[str, Any]:
        """See `Stage`; without the sample."""
        parts = (base64.b64encode(part).decode() for part in self._parts())
        named = zip(("weights", "scales", "biases"), parts, strict=True)
        return {"kind": self.kind, "dim": self.dim, "size": self.size, "digest": self._digest, **dict(named)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], place: str) -> LearnedStage:
        """What `record` gave, checked: it may come from anywhere.

        Raises:
            InvalidInput: a field is missing or is not what it should be; `place` says whose.
        """
        try:
            dim, size, digest = record["dim"], record["size"], record["digest"]
            for value, most in ((dim, _MOST_DIM), (size, _MOST_FEATURES)):
                if type(value) is not int or not 1 < value <= most:
                    raise ValueError(f"a size of {value!r}")
            raw = [base64.b64decode(record[name], validate=True) for name in ("weights", "scales", "biases")]
            weights = np.frombuffer(raw[0], np.int8).reshape(dim, size - 1)
            scales, biases = (np.frombuffer(part, "<f4").astype(np.float32) for part in raw[1:])
            if scales.shape != (size - 1,) or biases.shape != (size - 1,):
                raise ValueError("arrays of other lengths")
            if not (np.isfinite(scales).all() and np.isfinite(biases).all()):
                raise ValueError("a value that is not finite")
            made = cls(weights, scales, biases)
            if made._digest != digest:
                raise ValueError("another digest")
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{place}: its learned first stage is damaged ({error}). Push into a new collection."
            ) from error
        return made


def nearest(tokens: Float32, documents: TokenVectors) -> Float32:
    """Of each token vector the similarity with each document's nearest: float32 [n_tokens, n_documents].

    Args:
        documents: each has a token vector at least.
    """
    return np.maximum.reduceat(tokens @ documents.values.T, documents.offsets[:-1], axis=1)


def _some(random: np.random.Generator, values: Float32, most: int) -> Float32:
    """So many rows at most, drawn without going back, in their order."""
    if len(values) <= most:
        return values[random.permutation(len(values))]
    return values[random.choice(len(values), most, replace=False)]


def _train(
    random: np.random.Generator, tokens: Float32, similarities: Float32, n_units: int
) -> tuple[Float32, Float32]:
    """Weights [dim, n_units] and biases of rectified units, of which a linear form predicts similarities.

    Adam on the mean square, each target by itself centred, and all divided by their common deviation.
    """
    goal = similarities - similarities.mean(axis=0)
    goal /= np.float32(max(float(goal.std()), 1e-6))
    dim, n_targets = tokens.shape[1], goal.shape[1]
    # Unit vectors: rows of such a length make units that differ by about 1, half of them at work.
    parameters = [
        random.standard_normal((dim, n_units)).astype(np.float32),
        np.zeros(n_units, np.float32),
        random.standard_normal((n_units, n_targets)).astype(np.float32) / np.float32(np.sqrt(n_units)),
        np.zeros(n_targets, np.float32),
    ]
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in parameters]
    steps = _EPOCHS * -(-len(tokens) // _BATCH)
    done = 0
    for _ in range(_EPOCHS):
        order = random.permutation(len(tokens))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            gradients = _gradients(parameters, tokens[rows], goal[rows])
            done += 1
            rate = np.float32(_RATE * (1 + np.cos(np.pi * done / steps)) / 2)
            for value, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
                first += np.float32(0.1) * (gradient - first)
                second += np.float32(0.001) * (gradient * gradient - second)
                unbiased = first / np.float32(1 - 0.9**done)
                spread = np.sqrt(second / np.float32(1 - 0.999**done)) + np.float32(1e-8)
                value -= rate * unbiased / spread
    return parameters[0], parameters[1]


def _gradients(parameters: list[Float32], tokens: Float32, goal: Float32) -> list[Float32]:
    """Of the mean square of what the network misses, by each parameter."""
    weights, biases, readout, offsets = parameters
    units = np.maximum(tokens @ weights + biases, 0)
    missed = (units @ readout + offsets - goal) * np.float32(2 / len(tokens))
    back = (missed @ readout.T) * (units > 0)
    return [tokens.T @ back, back.sum(axis=0), units.T @ missed, missed.sum(axis=0)]
