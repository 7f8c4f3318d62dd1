"""Writes the small encoder and the tokenizer of a drawn case, for a library to start from.

Runs in the libraries' environments: needs torch, transformers and tokenizers, of any version in use.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from differential.texts import TEXTS

MARKERS = ["[unused0]", "[unused1]", "[unused3]", "[Q] ", "[D] "]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def write_base(folder: Path, base: dict[str, Any]) -> None:
    """config.json, weights and tokenizer of an encoder whose vectors depend on every token."""
    folder.mkdir(parents=True)
    wordpiece = base["family"] in ("bert", "distilbert")
    tokenizer, special, kind = (
        _wordpiece(base) if wordpiece else _unigram() if base["family"] == "xlm-roberta" else _bytes(base)
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = special | {"tokenizer_class": kind}
    if base["model_max_length"] or "roberta" in base["family"]:
        settings["model_max_length"] = base["model_max_length"] or base["positions"]
    if wordpiece:
        settings |= {
            "do_lower_case": base["lowercase"],
            "strip_accents": base["strip_accents"],
            "tokenize_chinese_chars": base["chinese"],
        }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(base["seed"])
    model = AutoModel.from_config(_config(base, tokenizer, special)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def _config(base: dict[str, Any], tokenizer: Tokenizer, special: dict[str, str]) -> Any:
    ids = {
        f"{role}_id": tokenizer.token_to_id(token) for role, token in special.items() if role == "pad_token"
    }
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": base["hidden"],
        "num_hidden_layers": base["layers"],
        "num_attention_heads": base["heads"],
        "intermediate_size": 48,
        "max_position_embeddings": base["positions"],
        **ids,
    }
    if base["family"] == "distilbert":
        return DistilBertConfig(
            vocab_size=sizes["vocab_size"], dim=base["hidden"], n_layers=base["layers"],
            n_heads=base["heads"], hidden_dim=48, max_position_embeddings=base["positions"],
        )  # fmt: skip
    if base["family"] == "modernbert":
        return ModernBertConfig(
            **sizes | {"global_attn_every_n_layers": 2, "local_attention": base["local_attention"]},
            cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3, reference_compile=False,
        )  # fmt: skip
    if base["family"] == "bert":
        return BertConfig(**sizes)
    kinds = {"roberta": RobertaConfig, "xlm-roberta": XLMRobertaConfig}
    # Its table has two rows that no token has a position for.
    return kinds[base["family"]](**sizes | {"max_position_embeddings": base["positions"] + 2})


def _wordpiece(base: dict[str, Any]) -> tuple[Tokenizer, dict[str, str], str]:
    special = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused3]"]
    signs = sorted({c for text in TEXTS for c in text if c.isprintable() and not c.isspace()} | set(LETTERS))
    words = ["query", "document", "the", "what", "token", "##s", "##ing", "word", "again", "中", "文"]
    tokens = dict.fromkeys([*special, *signs, *(f"##{sign}" for sign in signs), *words, "e\u0301"])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(
        lowercase=base["lowercase"],
        strip_accents=base["strip_accents"],
        handle_chinese_chars=base["chinese"],
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    named["mask_token"] = "[MASK]"
    made.add_special_tokens([AddedToken(token, normalized=False) for token in named.values()])
    made.add_tokens([AddedToken(token, normalized=False) for token in MARKERS[3:]])
    return made, named, "DistilBertTokenizer" if base["family"] == "distilbert" else "BertTokenizer"


def _bytes(base: dict[str, Any]) -> tuple[Tokenizer, dict[str, str], str]:
    roberta = base["family"] == "roberta"
    if roberta:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        named = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        named |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    else:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
        named |= {"unk_token": "[UNK]", "mask_token": "[MASK]"}
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(TEXTS, trainer)
    first, last = named["cls_token"], named["sep_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, made.token_to_id(first)), (last, made.token_to_id(last))],
    )
    made.add_special_tokens([AddedToken(named["mask_token"], lstrip=True, normalized=False)])
    made.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    return made, named, "RobertaTokenizer" if roberta else "PreTrainedTokenizerFast"


def _unigram() -> tuple[Tokenizer, dict[str, str], str]:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>",
        initial_alphabet=list(LETTERS + "▁!,.-:?()[]"), show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(TEXTS, trainer)
    named = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    named |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    made.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    return made, named, "XLMRobertaTokenizer"
