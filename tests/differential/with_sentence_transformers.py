"""Saves drawn cases with sentence-transformers 6 and keeps the vectors that its own reading of them gives.

python -m differential.with_sentence_transformers FOLDER FIRST COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.base.modules.dense import Dense
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from transformers import AutoTokenizer

from differential import keeping
from differential.drawing import sentence_transformers as draw
from differential.texts import TEXTS
from differential.writing import write_base

VECTORS = "token_embeddings"


def build(settings: dict[str, Any], base: Path) -> MultiVectorEncoder:
    """The model of a case, in memory."""
    if settings["query_expansion"] and settings["query_expansion"]["token"] == "pad":
        settings["query_expansion"]["token"] = AutoTokenizer.from_pretrained(str(base)).pad_token
    transformer = Transformer(
        str(base),
        query_length=settings["query_length"],
        document_length=settings["document_length"],
        query_expansion=settings["query_expansion"],
        max_seq_length=settings["max_seq_length"],
        do_lower_case=settings["do_lower_case"],
        processor_kwargs={
            side: settings[side] for side in ("truncation_side", "padding_side") if side in settings
        },
    )
    transformer.save_in_root = not settings["subfolder"]
    heads = []
    for each in settings["dense"]:
        kind = (
            torch.nn.Identity if each["activation"] == "Identity" else getattr(torch.nn, each["activation"])
        )
        options = {key: value for key, value in each.items() if key != "activation"}
        heads.append(Dense(**options, activation_function=kind(), module_input_name=VECTORS))
    masks = [] if settings["mask"] is None else [MultiVectorMask(**settings["mask"])]
    normalize = [Normalize(module_input_name=VECTORS)]
    behind = normalize if settings["normalize"] == "last" else []
    before = normalize if settings["normalize"] == "first" else []
    poolings = [HierarchicalTokenPooling(**settings["pooling"])] if settings["pooling"] else []
    middle = [*masks, *before, *heads] if settings["mask_first"] else [*before, *heads, *masks]
    return MultiVectorEncoder(
        modules=[transformer, *middle, *behind, *poolings],
        prompts=settings["prompts"],
        default_prompt_name=settings["default_prompt_name"],
        similarity_fn_name=settings["similarity"],
        device="cpu",
    )


def encode(folder: Path) -> tuple[list[Any], list[Any]]:
    """Query and document vectors of a saved model."""
    model = MultiVectorEncoder(str(folder), device="cpu")
    options = {"convert_to_numpy": True, "batch_size": 4, "show_progress_bar": False}
    return model.encode_query(TEXTS, **options), model.encode_document(TEXTS, **options)


def main(out: Path, numbers: range) -> None:
    torch.set_num_threads(1)
    for number in numbers:
        case = draw(number)

        def make(folder: Path, base: Path, case: Any = case) -> tuple[list[Any], list[Any]]:
            write_base(base, case.base)
            torch.manual_seed(case.base["seed"])
            build(case.settings, base).save_pretrained(str(folder), create_model_card=False)
            return encode(folder)

        keeping.keep(out, case, sentence_transformers.__version__, make)


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])))
