"""Makes the tokenizer of a checkpoint that has no tokenizer.json from the files it has instead.

BERT's vocab.txt and XLM-RoBERTa's sentencepiece model are converted here, as transformers converts them;
other classes by transformers, where it is installed. Code that a checkpoint brings along is never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from latebolt.errors import ExportError
from latebolt.formats.files import read_json, read_settings
from latebolt.formats.vocabulary import (
    ADVICE,
    FILE_NAME,
    SETTINGS,
    SPECIAL,
    ConvertedTokenizer,
    bert_settings,
)
from latebolt_export.requirements import quiet
from latebolt_export.source import sentencepiece_model

WORDPIECE, SENTENCEPIECE = "vocab.txt", "sentencepiece.bpe.model"
# What transformers makes tokenizers of; vocab.json means a byte-level BPE with its merges.txt.
FILES = (WORDPIECE, SENTENCEPIECE, "spiece.model", "spm.model", "vocab.json")
WORDPIECE_CLASSES = ("BertTokenizer", "DistilBertTokenizer")
SENTENCEPIECE_CLASSES = ("XLMRobertaTokenizer",)
# The class where no file names it.
OF_MODELS = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
WORDPIECE_ROLES = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "cls", "sep", "pad", "mask")}
SENTENCEPIECE_ROLES = {f"{role}_token": f"<{role}>" for role in ("unk", "pad", "mask")} | {
    "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
}  # fmt: skip
MAP, ADDED = "special_tokens_map.json", "added_tokens.json"
XLM_ROBERTA_FIRST = ("<s>", "<pad>", "</s>", "<unk>")  # instead of the model's own first three pieces


def convert(folder: Path) -> ConvertedTokenizer | None:
    """The tokenizer of a folder without tokenizer.json; None where there is one, or nothing to make one of.

    Raises:
        ExportError: its files cannot be converted, or contradict each other.
    """
    if (folder / FILE_NAME).is_file() or not (found := present(folder)):
        return None
    told, config = read_settings(folder / SETTINGS), read_settings(folder / "config.json")
    kind = told.get("tokenizer_class") or config.get("tokenizer_class") or ""
    kind = kind.removesuffix("Fast") or OF_MODELS.get(str(config.get("model_type")), "")
    if "AutoTokenizer" in (told.get("auto_map") or {}):
        raise ExportError(
            f"{folder}: has no {FILE_NAME}, and its tokenizer {kind} is code of its own, which is never run."
        )
    if kind in WORDPIECE_CLASSES and WORDPIECE in found:
        made, usual = _wordpiece(folder, told), WORDPIECE_ROLES
    elif kind in SENTENCEPIECE_CLASSES and SENTENCEPIECE in found:
        made, usual = _sentencepiece(folder / SENTENCEPIECE), SENTENCEPIECE_ROLES
    else:
        return _through_transformers(folder, kind, found)
    _add_tokens(made, folder, told)
    return ConvertedTokenizer(made, usual)


def present(folder: Path) -> list[str]:
    """The files of a folder that a tokenizer may be made of."""
    return [name for name in FILES if (folder / name).is_file()]


def _wordpiece(folder: Path, told: dict[str, Any]) -> Tokenizer:
    """Source: transformers, BertConverter and load_vocab."""
    try:
        lines = (folder / WORDPIECE).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ExportError(f"{folder / WORDPIECE}: is not UTF-8 ({error}). Download it again.") from error
    vocabulary = {token: i for i, token in enumerate(lines)}
    unknown, first, last = (_name(folder, told, role) for role in ("unk_token", "cls_token", "sep_token"))
    for token in (unknown, first, last):
        if token not in vocabulary:
            raise ExportError(f'{folder / WORDPIECE}: lacks the token "{token}". Download it again.')
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer(clean_text=True, **bert_settings(told))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##")
    made.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return made


def _sentencepiece(file: Path) -> Tokenizer:
    """Source: transformers, SpmConverter and XLMRobertaConverter."""
    model = sentencepiece_model.read(file.read_bytes(), str(file))
    if model.algorithm != sentencepiece_model.UNIGRAM:
        raise ExportError(f"{file}: is no Unigram model, which XLM-RoBERTa's is. {ADVICE}")
    pieces = [(name, 0.0) for name in XLM_ROBERTA_FIRST]
    pieces += [(piece.text, piece.score) for piece in model.pieces[3:]]
    pieces.append(("<mask>", 0.0))
    made = Tokenizer(models.Unigram(pieces, unk_id=XLM_ROBERTA_FIRST.index("<unk>"), byte_fallback=False))
    own = {sentencepiece_model.CONTROL: True, sentencepiece_model.OWN: False}
    made.add_tokens(
        [
            AddedToken(piece.text, normalized=False, special=own[piece.kind])
            for piece in model.pieces
            if piece.kind in own
        ]
    )
    blanks = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    made.normalizer = normalizers.Sequence([_normalisation(model.table, file), *blanks])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, XLM_ROBERTA_FIRST.index(name)) for name in ("<s>", "</s>")],
    )
    return made


def _normalisation(table: bytes, file: Path) -> normalizers.Precompiled:
    try:
        made = normalizers.Precompiled(table) if table else None
    except Exception as error:  # the Rust side raises plain Exception
        raise ExportError(f"{file}: its normalisation table is damaged. Download it again.") from error
    if made is None or made.normalize_str("\n") != " ":
        raise ExportError(
            f"{file}: its normalisation does not make a blank of a line break, as XLM-RoBERTa's does, so "
            f"that transformers 4 and 5 part words differently. {ADVICE}"
        )
    return made


def _add_tokens(made: Tokenizer, folder: Path, told: dict[str, Any]) -> None:
    """Tokens that the other files add, at the ids they say.

    Those that fill a role and are plain names are added with the settings (`load_as_transformers_does`).
    """
    numbered = _numbered(folder, told)
    made.add_tokens([numbered[i] for i in sorted(numbered)])
    for i, token in numbered.items():
        if (became := made.token_to_id(token.content)) != i:
            raise ExportError(
                f'{folder}: the token "{token.content}" should be {i}, and becomes {became} behind what '
                f"{' and '.join(present(folder))} holds. {ADVICE}"
            )
    known = {token.content for token in made.get_added_tokens_decoder().values()}
    made.add_tokens([token for token in _special(folder, told) if token.content not in known])


def _numbered(folder: Path, told: dict[str, Any]) -> dict[int, AddedToken]:
    if decoder := told.get("added_tokens_decoder"):
        return {int(i): _token(token) for i, token in decoder.items()}
    special = {token.content for token in _special(folder, told)}
    special |= {_content(told[role]) for role in SPECIAL if told.get(role)}
    return {
        int(i): AddedToken(name, normalized=name not in special, special=name in special)
        for name, i in (read_json(folder / ADDED) or {}).items()
    }


def _special(folder: Path, told: dict[str, Any]) -> Iterator[AddedToken]:
    """Tokens with flags of their own that fill roles, and further special ones."""
    for settings in (told, read_settings(folder / MAP)):
        for role in SPECIAL:
            if isinstance(settings.get(role), dict):
                yield _token(settings[role], special=True)
        for token in settings.get("additional_special_tokens") or ():
            yield (
                _token(token, special=True)
                if isinstance(token, dict)
                else AddedToken(token, normalized=False, special=True)
            )


def _token(told: dict[str, Any], **more: bool) -> AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(told["content"], **{flag: told[flag] for flag in flags if flag in told} | more)


def _name(folder: Path, told: dict[str, Any], role: str) -> str:
    """The token that fills a role of BERT's."""
    names = {_content(each[role]) for each in (told, read_settings(folder / MAP)) if each.get(role)}
    if len(names) > 1:
        raise ExportError(f"{folder}: {SETTINGS} and {MAP} name different tokens for {role}. Correct one.")
    return names.pop() if names else WORDPIECE_ROLES[role]


def _content(token: str | dict[str, Any]) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _through_transformers(folder: Path, kind: str, found: list[str]) -> ConvertedTokenizer:
    what = (
        f"{folder}: has no {FILE_NAME}, and {' and '.join(found)} of {kind or 'an unnamed class'} cannot be"
    )
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ExportError(
            f"{what} converted without transformers. Install it with: pip install 'latebolt[optimum]'"
        ) from error
    try:
        with quiet():
            made = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever it is, the library did not make one
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{what} converted by transformers ({reason}). {ADVICE}") from error
    if not made.is_fast:
        raise ExportError(f"{what} converted: transformers has that class in Python only. {ADVICE}")
    roles = {role: str(token) for role, token in made.special_tokens_map.items() if role in SPECIAL}
    return ConvertedTokenizer(made.backend_tokenizer, roles)
