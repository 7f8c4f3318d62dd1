"""Bulk encoding on a Ray cluster: `EncodeTexts` for Ray Data, and `write_parts`, a job that can be cut short.

`EncodeTexts` follows Ray Data's callable classes (`Dataset.map_batches`, ray 2.60): an actor a worker, which
loads the model once. `write_parts` puts its vectors, or the codes of an index, into files that all workers
and the machine that adopts them can reach.

A part is named after its contents and gets that name when it is complete. A worker that is killed is started
anew by Ray, and its batches are encoded again, but for the parts that are there already. What Ray reports as
done, once a batch, is listed and nothing else, so nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from latebolt.adapters import parquet
from latebolt.adapters.ray.cluster import prepare_cluster
from latebolt.adapters.settings import refuse_unknown, settings_of
from latebolt.encoder import model_folder
from latebolt.encoder.encoder import Encoder
from latebolt.errors import IndexCorrupt, InvalidInput, LateboltError, RuntimeUnavailable
from latebolt.index.format import files
from latebolt.index.format.layout import ModelRecord
from latebolt.index.format.lock import writer_lock
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.index import Index
from latebolt.index.ingest import parts
from latebolt.index.store.check import verify_index
from latebolt.progress import progress_bar

try:
    import pyarrow as pa
    import ray
    import ray.data
    import ray.exceptions
except ImportError as error:
    raise RuntimeUnavailable("Ray Data is not installed. Run \"pip install 'latebolt[cpu,ray]'\".") from error

Batch = Any  # pyarrow.Table, pandas.DataFrame, or dict of NumPy arrays: Ray Data's formats

TEMPLATE: Final = ".template"  # the empty index that parts of an index are made from
_OURS: Final = re.compile(r"part-[0-9a-f]{32}(\.parquet)?|\.part-[0-9a-f]{32}\..*\.draft")
_ROWS_PER_PART: Final = 4096


class EncodeTexts:
    """Adds token vectors to batches of texts: the columns `values` (list<float32>) and `lengths` (int32).

        dataset.map_batches(
            EncodeTexts,
            fn_constructor_kwargs={"model": "starter"},
            batch_size=256,
            compute=ray.data.ActorPoolStrategy(size=4),
            num_cpus=4,
        )

    Other columns pass as they are. Batches may come in any of Ray Data's formats.

    Args:
        model, precision, dim, device: see `Encoder.load`; the model must be found on every worker.
        threads: of an actor; by default the CPUs that Ray gives it (`num_cpus` of `map_batches`).
        text_column: the column of texts.
        query: encode as queries instead of documents.
        pool_factor, max_length, max_vectors: of documents, see `Encoder.encode_documents`.
    Raises:
        ModelError, RuntimeUnavailable: see `Encoder.load`.
    """

    def __init__(
        self,
        model: str | Path = "starter",
        precision: str | None = None,
        dim: int | None = None,
        device: str = "cpu",
        threads: int | None = None,
        text_column: str = "text",
        query: bool = False,
        pool_factor: int = 1,
        max_length: int | None = None,
        max_vectors: int | None = None,
    ) -> None:
        self.encoder = Encoder.load(model, precision, dim, device, threads or _assigned_cpus())
        self.text_column, self.query = text_column, query
        self.pool_factor, self.max_length, self.max_vectors = pool_factor, max_length, max_vectors

    def __call__(self, batch: Batch) -> pa.Table:
        """The batch with its token vectors.

        Raises:
            InvalidInput: the column of texts is missing or holds something else, or a column `values` or
                `lengths` is there already.
        """
        table = as_table(batch)
        texts = parquet.strings(table, self.text_column)
        if self.query:
            vectors = self.encoder.encode_queries(texts)
        else:
            vectors = self.encoder.encode_documents(
                texts,
                pool_factor=self.pool_factor,
                max_length=self.max_length,
                max_vectors=self.max_vectors,
            )
        return parquet.with_vectors(table, vectors)

    @property
    def identity(self) -> list[object]:
        """Whatever decides the vectors of a text."""
        # Parts of before there were such settings keep their names.
        limit = [] if self.max_vectors is None else [self.max_vectors]
        rules = self.encoder.contract.beside_print()
        return [self.encoder.fingerprint, self.query, self.pool_factor, self.max_length, *limit, *rules]


def as_table(batch: Batch) -> pa.Table:
    """A batch of any of Ray Data's formats as an Arrow table."""
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, Mapping):
        return pa.table({name: pa.array(list(column)) for name, column in batch.items()})
    return pa.Table.from_pandas(batch, preserve_index=False)


def _assigned_cpus() -> int | None:
    """CPUs that Ray gives this worker; None outside of Ray, where all are the caller's."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    return max(1, int(context.get_assigned_resources().get("CPU", 1)))


@dataclass(frozen=True)
class Summary:
    """What `write_parts` did.

    Args:
        out: the folder of the parts and their list.
        kind: "parquet" or "index".
        texts, tokens: in all parts.
        parts: how many.
        reused: of them, those that an earlier run had finished.
        seconds: of this run.
    """

    out: str
    kind: str
    texts: int
    tokens: int
    parts: int
    reused: int
    seconds: float

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def write_parts(
    dataset: ray.data.Dataset,
    out: str | Path,
    index: str | Path | None = None,
    encode: Mapping[str, Any] | None = None,
    id_column: str = "id",
    workers: int | tuple[int, int] = 1,
    rows_per_part: int = _ROWS_PER_PART,
    ray_remote_args: Mapping[str, Any] | None = None,
    show_progress: bool = False,
) -> Summary:
    """Encode a dataset's texts into a folder of parts, for one machine to take in without encoding again.

    Run it again after it was stopped, whatever stopped it: parts that are there are not encoded again. When
    it returns, the folder holds this dataset's parts and `parts.json`, which lists them; parts of other data
    have gone. `Index.adopt(out)` takes in parts of an index, and the Parquet files come into one by
    `latebolt.adapters.parquet.add_parts(index, out)`.

    Args:
        dataset: rows with a text, an id (a string or an integer), and metadata: a column `metadata` of
            structs or of JSON objects, or else all other columns. It is read twice: first the ids alone.
        out: a folder that every worker reaches under this name.
        index: write parts of this index, with its model and its centroids; without it, Parquet files.
        encode: arguments of `EncodeTexts`. With `index` the model is the index's, and only `device`,
            `threads` and `text_column` are left to choose.
        workers: the most actors, or the fewest and the most of them. The fewest are held from the start, so
            they have to leave a CPU for reading.
        rows_per_part: texts a part, and so what a killed worker may have to do again.
        ray_remote_args: of each actor, e.g. {"num_cpus": 4}, {"num_gpus": 1}.
        show_progress: a bar on stderr.
    Raises:
        InvalidInput: a column is missing or holds something else, or two rows have one id.
        ModelError: there is no such model.
        LateboltError: a worker cannot load it.
        IndexNotFound: there is no such index.
        StorageFull: a disk is full; run it again when it is not.
        IndexLocked: another job writes to the folder.
    """
    started = time.perf_counter()
    folder = Path(out).absolute()
    options = _options(encode, index)
    _check_model(options)
    if not isinstance(rows_per_part, int) or rows_per_part < 1:
        raise InvalidInput(f"rows_per_part should be an int of at least 1, got {rows_per_part!r}.")
    least, most = (1, workers) if isinstance(workers, int) else workers
    remote = dict(ray_remote_args or {})
    _check_cpus(least, remote.get("num_cpus", 1))
    files.make_folder(folder)
    with writer_lock(folder), _settings(dataset), _own_errors():
        names, n_rows = dataset.columns() or [], 0
        if names:
            parquet.check_columns(names, options.get("text_column", "text"), id_column)
            n_rows = _refuse_repeated_ids(dataset, id_column)
        files.remove(folder / parts.LISTING)
        files.remove(folder / TEMPLATE)
        if index is not None:
            with Index.open(index) as opened, opened.new_part(folder / TEMPLATE):
                pass
        done: list[dict[str, Any]] = []
        if n_rows:  # else workers would start, with a model each, and end
            written = dataset.repartition(target_num_rows_per_block=rows_per_part).map_batches(
                _WritePart,
                fn_constructor_kwargs={
                    "folder": str(folder),
                    "of_index": index is not None,
                    "id_column": id_column,
                    **options,
                },
                batch_size=rows_per_part,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
                **remote,
            )
            with progress_bar(None, "encode", "text", show_progress) as bar:
                for row in written.iter_rows():
                    done.append(row)
                    bar.step(row["texts"], row["tokens"])
        # A batch that equals another is one part; ids would have to be equal too, so there is none.
        listed = [row["part"] for row in done]
        texts, tokens = (sum(row[name] for row in done) for name in ("texts", "tokens"))
        kind: Literal["parquet", "index"] = "parquet" if index is None else "index"
        _remove_others(folder, set(listed))
        parts.write_listing(folder, parts.listing(kind, _model(done, options), texts, tokens, listed))
    reused = sum(row["reused"] for row in done)
    return Summary(str(folder), kind, texts, tokens, len(listed), reused, time.perf_counter() - started)


def _check_cpus(workers: int, cpus: float) -> None:
    """Raise InvalidInput where actors would hold every CPU, so that nothing could be read for them."""
    if not ray.is_initialized():
        prepare_cluster()
        ray.init()
    there = ray.cluster_resources().get("CPU", 0)
    if there < workers * cpus + 1:
        raise InvalidInput(
            f"the cluster has {there:g} CPUs, and {workers} workers of {cpus:g} leave none to read the "
            f"data. Ask for fewer workers, or give each less, e.g. num_cpus 0.5."
        )


def _options(encode: Mapping[str, Any] | None, index: str | Path | None) -> dict[str, Any]:
    """Arguments of `EncodeTexts`."""
    options = dict(encode or {})
    refuse_unknown(options, settings_of(EncodeTexts.__init__), "EncodeTexts")
    if index is not None:
        if unfit := sorted(set(options) - {"device", "threads", "text_column"}):
            raise InvalidInput(f"{unfit[0]}: is decided by the index {index}. Leave it out.")
        with Index.open(index) as opened:
            record = opened.model
        if record is None:
            raise InvalidInput(f"{index}: was made without a model, so texts cannot be encoded for it.")
        options |= {"model": record.source, "precision": record.precision, "dim": record.dim}
    return options


def _check_model(options: Mapping[str, Any]) -> None:
    """Raise ModelError here, where it is read, for a model, width or precision that there is not."""
    contract = model_folder.find(options.get("model", "starter")).contract
    contract.head(options.get("dim"))
    if options.get("precision") is not None:
        contract.graph(options["precision"])


def _model(done: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> ModelRecord:
    """What the workers have encoded with."""
    found = {row["model"] for row in done}
    if len(found) > 1:
        used = " and ".join(sorted(msgspec.json.decode(each)["precision"] for each in found))
        raise InvalidInput(f"some workers encoded with {used}. Name the precision that all of them have.")
    if found:
        return msgspec.json.decode(found.pop(), type=ModelRecord)
    names = ("model", "precision", "dim", "device")
    return _record(Encoder.load(**{name: options[name] for name in names if name in options}))


def _record(encoder: Encoder) -> ModelRecord:
    return ModelRecord(encoder.model, encoder.fingerprint, encoder.precision, encoder.dim)


@contextlib.contextmanager
def _settings(dataset: ray.data.Dataset) -> Iterator[None]:
    """Ray Data as this job needs it: blocks in order, so that a second run makes the same parts, errors of
    workers as they were raised, and no bars beside ours."""
    context = dataset.context
    wanted = [
        (context.execution_options, "preserve_order", True),
        (context, "raise_original_map_exception", True),
        (context, "enable_progress_bars", False),
    ]
    before = [getattr(place, name) for place, name, _ in wanted]
    for place, name, value in wanted:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(wanted, before, strict=True):
            setattr(place, name, value)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raise a worker's error of ours as itself, instead of Ray's account of it."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, LateboltError):
            raise
        # Ours are of one line; Ray has written below it how it can be told to try again.
        error.cause.args = (str(error.cause).partition("\n")[0],)
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        # Of a worker that did not come up there is only the text of its error.
        messages = re.findall(r"^latebolt\.errors\.\w+: (.*)", str(error), re.MULTILINE)
        if not messages:
            raise
        raise LateboltError(f"a worker cannot encode: {messages[-1]}") from error


def _refuse_repeated_ids(dataset: ray.data.Dataset, column: str) -> int:
    """How many rows there are; raise InvalidInput for an id that comes twice. Holds eight bytes an id."""
    ids = dataset.select_columns([column])
    hashed = ids.map_batches(_HashIds(column), batch_format="pyarrow")
    found = [batch["hash"] for batch in hashed.iter_batches(batch_format="numpy", batch_size=None)]
    hashes = np.sort(np.concatenate([np.zeros(0, np.uint64), *found]))
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return len(hashes)
    seen: set[str] = set()
    for batch in ids.iter_batches(batch_format="pyarrow"):
        for id in parquet.strings(batch, column, integers=True):
            if _hash(id) in twice and id in seen:
                raise InvalidInput(
                    f"column {column!r} has the id {id!r} twice. Give every document an id of its own."
                )
            seen.update([id] if _hash(id) in twice else ())
    return len(hashes)


class _HashIds:
    """Ids as 64-bit numbers."""

    def __init__(self, column: str) -> None:
        self.column = column

    def __call__(self, batch: pa.Table) -> pa.Table:
        hashes = [_hash(id) for id in parquet.strings(batch, self.column, integers=True)]
        return pa.table({"hash": pa.array(hashes, pa.uint64())})


def _hash(id: str) -> int:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")


class _WritePart:
    """Writes a batch as one part, unless it is there; answers with its name and counts."""

    def __init__(self, folder: str, of_index: bool, id_column: str, **options: Any) -> None:
        self._folder, self._id_column = Path(folder), id_column
        self._encode = EncodeTexts(**options)
        identity = [*self._encode.identity, self._encode.text_column, id_column]
        self._template: Index | None = None
        if of_index:
            self._template = Index.open(self._folder / TEMPLATE, self._encode.encoder)
            manifest = read_manifest(self._folder / TEMPLATE)
            identity += [manifest.bits, manifest.settings, manifest.codecs]
        self._identity = msgspec.json.encode(identity)

    def __call__(self, batch: pa.Table) -> pa.Table:
        table = batch.replace_schema_metadata(None).combine_chunks()
        name = f"part-{self._digest(table)}" + (".parquet" if self._template is None else "")
        path = self._folder / name
        reused = self._is_whole(path)
        if not reused:
            # A name of this attempt's own: one that was taken for dead may still be writing.
            attempt = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
            draft = self._folder / f".{path.stem}.{attempt}.draft"
            try:
                if self._template is None:
                    self._write_parquet(table, draft)
                else:
                    self._write_index(self._template, table, draft)
                self._publish(draft, path)
            finally:
                files.remove(draft)
        texts, tokens = self._count(path)
        model = msgspec.json.encode(_record(self._encode.encoder)).decode()
        counts = {"texts": [texts], "tokens": [tokens], "reused": [reused]}
        return pa.table({"part": [name], "model": [model], **counts})

    def _digest(self, table: pa.Table) -> str:
        """Of the rows and of whatever decides what becomes of them."""
        digest = hashlib.blake2b(self._identity, digest_size=16)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        digest.update(sink.getvalue())
        return digest.hexdigest()

    def _write_parquet(self, table: pa.Table, draft: Path) -> None:
        with files.writing(draft):
            draft.touch(exist_ok=False)  # a folder that cannot be written is told before the work
        columns = self._encode.text_column, self._id_column
        parquet.strings(table, self._id_column, integers=True)
        encoded = self._encode(table)
        tokens = int(np.sum(encoded.column(parquet.LENGTHS).to_numpy(), dtype=np.int64))
        parquet.write_part(encoded, parquet.Stamp(_record(self._encode.encoder), tokens, *columns), draft)

    def _write_index(self, template: Index, table: pa.Table, draft: Path) -> None:
        text, id = self._encode.text_column, self._id_column
        with template.new_part(draft) as part:
            texts = parquet.strings(table, text)
            ids = parquet.strings(table, id, integers=True)
            part.add(texts, ids, parquet.metadata_of(table, text, id))

    def _publish(self, draft: Path, path: Path) -> None:
        try:
            with files.writing(path):
                draft.replace(path)
        except LateboltError:
            if not path.exists():  # else another attempt at the same batch was faster
                raise
        files.sync_folder(self._folder)

    def _is_whole(self, path: Path) -> bool:
        """Whether an earlier attempt has left the part; a damaged one is removed."""
        try:
            if self._template is None:
                parquet.read_stamp(path)
            else:
                verify_index(path)
        except FileNotFoundError:  # IndexNotFound is one
            return False
        except IndexCorrupt:
            files.remove(path)
            return False
        return True

    def _count(self, path: Path) -> tuple[int, int]:
        """Texts and tokens of a part."""
        if self._template is None:
            texts, stamp = parquet.read_stamp(path)
            return texts, stamp.tokens
        with Index.open(path) as part:
            return len(part), part.info()["tokens"]


def _remove_others(folder: Path, listed: set[str]) -> None:
    """Remove drafts, and parts that are not this job's."""
    for entry in folder.iterdir():
        if (_OURS.fullmatch(entry.name) and entry.name not in listed) or entry.name == TEMPLATE:
            files.remove(entry)
