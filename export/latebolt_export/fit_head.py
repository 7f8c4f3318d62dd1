"""Fits a projection head for an encoder that was not made for late interaction: hidden states to 128.

The encoder stays as it is. The head starts as the leading eigenvectors of the uncentred second moment of
unit token vectors, then learns two things at once, for each nested width: to keep the MaxSim ranking of the
full-width vectors (Kullback-Leibler divergence), and to put the right document first (cross entropy). The
built-in models' heads were made with this command, the multilingual one's without learning (--steps 0); their
files name the collections. Vectors come from the runtime over a float32 export without a head, so prompts,
lengths and skip lists are those of the model.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, kl_div, normalize

from latebolt.encoder.encoder import Encoder
from latebolt.evaluate import read_collection
from latebolt.values import TokenVectors
from latebolt_export import multilingual, recipe, starter

SOURCES = {starter.NAME: starter.shipped_checkpoint, multilingual.NAME: multilingual.shipped_checkpoint}

SEEDS, NEIGHBOURS = 8, 8  # a batch: so many documents, each with its nearest ones as hard negatives
TEACHER_SCALE = 8.0  # sharpens MaxSim differences before the softmax of the divergence
_POOL = 40  # neighbours to choose from


@dataclass
class Texts:
    """Token vectors of many texts, float16 [n_tokens, hidden], and where each text begins."""

    values: torch.Tensor
    offsets: np.ndarray

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.values[self.offsets[i] : self.offsets[i + 1]].float()

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass
class TrainingSet:
    """One collection: documents, queries, the queries that ask for each document, mean vectors."""

    name: str
    documents: Texts
    queries: Texts
    relevant: np.ndarray  # the document of each query
    asked: dict[int, list[int]]  # document -> queries to learn from
    means: torch.Tensor


def halved(parts: Iterable[TokenVectors]) -> Texts:
    """The token vectors of all parts, each in half the memory as soon as it is there."""
    values: deque[torch.Tensor] = deque()
    lengths = [np.zeros(1, np.int64)]
    for part in parts:
        values.append(torch.from_numpy(part.values).half())
        lengths.append(np.diff(part.offsets))
    offsets = np.concatenate(lengths).cumsum()
    # Pages of an empty tensor are only taken as they are written, and each part goes once it is copied.
    joint = torch.empty(int(offsets[-1]), values[0].shape[1], dtype=torch.float16)
    at = 0
    while values:
        part_values = values.popleft()
        joint[at : at + len(part_values)] = part_values
        at += len(part_values)
    return Texts(joint, offsets)


def training_set(encoder: Encoder, collection: Path, hold_out: bool) -> TrainingSet:
    """A collection ready to train on; with `hold_out`, every second query is left out."""
    read = read_collection(collection)
    with click.progressbar(read.documents.values(), label=f"encode {read.name}") as texts:
        documents = halved(encoder.iter_documents(texts))
    queries = halved([encoder.encode_queries(list(read.queries.values()))])
    position = {name: i for i, name in enumerate(read.documents)}
    best = [max(read.qrels[query].items(), key=lambda pair: pair[1])[0] for query in read.queries]
    relevant = np.array([position[name] for name in best])
    asked: dict[int, list[int]] = {}
    for query in range(0, len(relevant), 2 if hold_out else 1):
        asked.setdefault(int(relevant[query]), []).append(query)
    means = normalize(torch.stack([documents[i].mean(0) for i in range(len(documents))]), dim=-1)
    return TrainingSet(read.name, documents, queries, relevant, asked, means)


def principal_head(sets: Sequence[TrainingSet], dim: int) -> torch.Tensor:
    """Float32 [dim, hidden]: leading eigenvectors of the uncentred second moment of unit token vectors."""
    hidden = sets[0].documents.values.shape[1]
    moment = torch.zeros(hidden, hidden, dtype=torch.float64)
    for each in sets:
        for part in each.documents.values.split(65536):
            unit = normalize(part.float(), dim=-1)
            moment += (unit.T @ unit).double() / len(each.documents.values)
    return torch.linalg.eigh(moment).eigenvectors.flip(1).T[:dim].float().contiguous()


def maxsim_matrix(
    queries: torch.Tensor, n_queries: list[int], documents: torch.Tensor, n_documents: list[int]
) -> torch.Tensor:
    """[queries, documents] MaxSim of unit vectors, rows of all texts back to back."""
    similarity = queries @ documents.T
    of_document = torch.repeat_interleave(torch.arange(len(n_documents)), torch.tensor(n_documents))
    best = torch.full((len(queries), len(n_documents)), -2.0).scatter_reduce(
        1, of_document.expand(len(queries), -1), similarity, "amax"
    )
    of_query = torch.repeat_interleave(torch.arange(len(n_queries)), torch.tensor(n_queries))
    return torch.zeros(len(n_queries), len(n_documents)).index_add(0, of_query, best)


def draw_batch(
    data: TrainingSet, rng: np.random.Generator, sentences: float
) -> tuple[torch.Tensor, list[int], torch.Tensor, list[int]]:
    """Queries and their documents; some queries are a stretch of the document, cut out of it.

    Args:
        sentences: share of queries made that way (the inverse cloze task).
    """
    chosen: list[int] = []
    for seed in rng.choice(list(data.asked), SEEDS, replace=False):
        near = (data.means @ data.means[seed]).topk(min(_POOL, len(data.documents))).indices.tolist()
        near = [i for i in near if i in data.asked and i not in chosen]
        chosen += near[:1] + [near[i] for i in 1 + rng.permutation(max(0, len(near) - 1))[: NEIGHBOURS - 1]]
    queries, documents = [], []
    for i in chosen:
        document = data.documents[i]
        if rng.random() < sentences and len(document) > 40:
            length = int(rng.integers(6, 20))
            start = int(rng.integers(1, len(document) - length - 1))
            queries.append(document[start : start + length])
            document = torch.cat([document[:start], document[start + length :]])
        else:
            queries.append(data.queries[int(rng.choice(data.asked[i]))])
        documents.append(document)
    return torch.cat(queries), [len(q) for q in queries], torch.cat(documents), [len(d) for d in documents]


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults made the starter's head."""

    steps: int = 900
    rate: float = 1e-3
    divergence: float = 4.0  # weight of keeping the full-width ranking
    right_first: float = 0.3  # weight of the cross entropy
    sentences: float = 0.5
    seed: int = 0


def train_head(sets: Sequence[TrainingSet], dims: Sequence[int], settings: Settings) -> torch.Tensor:
    """Float32 [max(dims), hidden]; rows 0:d are the head of width d."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    head = torch.nn.Parameter(principal_head(sets, max(dims)))
    sharpness = torch.nn.Parameter(torch.tensor(float(np.log(TEACHER_SCALE))))
    groups: list[dict[str, Any]] = [{"params": [head]}, {"params": [sharpness], "lr": 0.01}]
    optimiser = torch.optim.Adam(groups, lr=settings.rate)
    with click.progressbar(range(settings.steps), label="train") as steps:
        for step in steps:
            queries, n_queries, documents, n_documents = draw_batch(
                sets[step % len(sets)], rng, settings.sentences
            )
            with torch.no_grad():
                unit = normalize(queries, dim=-1), normalize(documents, dim=-1)
                teacher = maxsim_matrix(unit[0], n_queries, unit[1], n_documents) * TEACHER_SCALE
            loss = torch.zeros(())
            projected = queries @ head.T, documents @ head.T
            for dim in dims:
                narrow = [normalize(side[:, :dim], dim=-1) for side in projected]
                student = maxsim_matrix(narrow[0], n_queries, narrow[1], n_documents)
                loss = loss + settings.right_first * cross_entropy(
                    student * sharpness.exp(), torch.arange(len(n_documents))
                )
                loss = loss + settings.divergence * kl_div(
                    (student * TEACHER_SCALE).log_softmax(1), teacher.softmax(1), reduction="batchmean"
                )
            warm = min(1.0, (step + 1) / 50)
            decay = 0.5 * (1 + np.cos(np.pi * step / settings.steps))
            optimiser.param_groups[0]["lr"] = settings.rate * warm * decay
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return head.detach()


def ndcg_at_10(data: TrainingSet, head: torch.Tensor, queries: Sequence[int]) -> float:
    """Mean nDCG@10 with one relevant document a query, exact vectors."""
    from latebolt.kernels.maxsim import maxsim_arrays

    def project(values: torch.Tensor) -> np.ndarray:
        return np.asarray(normalize(values.float() @ head.T, dim=-1).numpy())

    documents = np.concatenate([project(part) for part in data.documents.values.split(65536)])
    gains = []
    for query in queries:
        scores = maxsim_arrays(project(data.queries[query]), documents, data.documents.offsets)
        rank = int((scores > scores[data.relevant[query]]).sum())
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
    return float(np.mean(gains))


def made_by(model: str, steps: int, hold_out: bool) -> str:
    """The command, up to the collections, which have a place of their own."""
    command = f"python -m latebolt_export.fit_head --model {model} --steps {steps}"
    return command + " --hold-out" * hold_out


@click.command()
@click.argument("collections", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write.")
@click.option("--steps", default=Settings.steps, show_default=True)
@click.option("--hold-out", is_flag=True, help="Leave every second query out and measure on those.")
@click.option("--threads", default=2, show_default=True)
@click.option("--model", type=click.Choice(sorted(SOURCES)), default=starter.NAME, show_default=True)
def main(
    collections: tuple[Path, ...], out: Path, steps: int, hold_out: bool, threads: int, model: str
) -> None:
    """Fit a built-in model's head on COLLECTIONS (BEIR layout)."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        recipe.build_headless(SOURCES[model](), model, Path(folder) / "model")
        with Encoder.load(Path(folder) / "model", "fp32", threads=threads) as encoder:
            sets = [training_set(encoder, collection, hold_out) for collection in collections]
    dims = (128, 96, 64)
    head = train_head(sets, dims, Settings(steps=steps))
    about: dict[str, Any] = {
        "made_by": made_by(model, steps, hold_out),
        "collections": [data.name for data in sets],
        "steps": steps,
    }
    save_file({"linear.weight": head}, out, metadata={"about": json.dumps(about)})
    if hold_out:
        start = principal_head(sets, max(dims))
        click.echo("nDCG@10 on the queries left out, exact float32 vectors:")
        for data in sets:
            unseen = list(range(1, len(data.relevant), 2))[:: max(1, len(data.relevant) // 2000)]
            for name, candidate in (("start", start), ("trained", head)):
                figures = {dim: round(ndcg_at_10(data, candidate[:dim], unseen), 4) for dim in dims}
                click.echo(json.dumps({"collection": data.name, "head": name, "nDCG@10": figures}))


if __name__ == "__main__":
    main()
