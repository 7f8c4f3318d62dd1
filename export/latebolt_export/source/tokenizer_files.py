"""Makes the tokenizer of a checkpoint that has no tokenizer.json from the files it has instead.

BERT's vocab.txt and XLM-RoBERTa's sentencepiece model are converted here, as transformers converts them;
other classes by transformers, where it is installed. Code that a checkpoint brings along is never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from latebolt.errors import ExportError
from latebolt.formats import named_tokens
from latebolt.formats.settings_file import SettingsFile
from latebolt.formats.vocabulary import (
    FILE_NAME,
    MAKE,
    MAP,
    SENTENCEPIECE,
    SETTINGS,
    SOURCES,
    SPECIAL,
    WORDPIECE,
    ConvertedTokenizer,
    bert_settings,
)
from latebolt_export.requirements import quiet
from latebolt_export.source import sentencepiece_model, xlm_roberta

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
ADDED = "added_tokens.json"

# The way out where transformers makes no tokenizer.json either, or only by running a checkpoint's code.
GET = f"Get a {FILE_NAME} from the model's authors, or make one where you trust their code."


@dataclass(frozen=True)
class _Files:
    """A folder's files that say more of its tokenizer than which pieces it has."""

    folder: Path
    settings: SettingsFile
    map: SettingsFile

    def both(self) -> tuple[SettingsFile, SettingsFile]:
        """Those that name tokens in roles."""
        return self.settings, self.map


def convert(folder: Path) -> ConvertedTokenizer | None:
    """The tokenizer of a folder without tokenizer.json; None where there is one, or nothing to make one of.

    Raises:
        ModelError: a setting is not what it should be; its files cannot be converted, or contradict each
            other (ExportError).
    """
    if (folder / FILE_NAME).is_file() or not (found := present(folder)):
        return None
    files = _Files(folder, SettingsFile(folder / SETTINGS), SettingsFile(folder / MAP))
    config = SettingsFile(folder / "config.json")
    kind = files.settings.text("tokenizer_class", "") or config.text("tokenizer_class", "")
    kind = kind.removesuffix("Fast") or OF_MODELS.get(config.text("model_type", ""), "")
    if _has_own_code(files.settings):
        raise ExportError(
            f"{folder}: has no {FILE_NAME}, and its tokenizer{kind and ' '}{kind} is code of its own, "
            f"which is never run. {GET}"
        )
    if kind in WORDPIECE_CLASSES and WORDPIECE in found:
        made, usual = _wordpiece(files), WORDPIECE_ROLES
    elif kind in SENTENCEPIECE_CLASSES and SENTENCEPIECE in found:
        made, usual = _sentencepiece(folder / SENTENCEPIECE), SENTENCEPIECE_ROLES
    else:
        return _through_transformers(folder, kind, found)
    _add_tokens(made, files)
    return ConvertedTokenizer(made, usual)


def present(folder: Path) -> list[str]:
    """The files of a folder that a tokenizer may be made of."""
    return [name for name in SOURCES if (folder / name).is_file()]


def _has_own_code(settings: SettingsFile) -> bool:
    """Whether a class of the checkpoint's own makes its tokenizer; a list is how that was written first."""
    if isinstance(settings.value("auto_map"), list):
        return True
    return "AutoTokenizer" in settings.object("auto_map")


def _wordpiece(files: _Files) -> Tokenizer:
    """Source: transformers, BertConverter and load_vocab."""
    folder = files.folder
    try:
        lines = (folder / WORDPIECE).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ExportError(f"{folder / WORDPIECE}: is not UTF-8 ({error}). Download it again.") from error
    vocabulary = {token: i for i, token in enumerate(lines)}
    unknown, first, last = (_name(files, role) for role in ("unk_token", "cls_token", "sep_token"))
    for token in (unknown, first, last):
        if token not in vocabulary:
            raise ExportError(f'{folder / WORDPIECE}: lacks the token "{token}". Download it again.')
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer(clean_text=True, **bert_settings(files.settings))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##")
    try:
        made.post_processor = processors.TemplateProcessing(
            single=f"{first}:0 $A:0 {last}:0",
            pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
            special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
        )
    except ValueError as error:
        raise ExportError(
            f'{folder}: "{first}" and "{last}" cannot be put around a text as cls_token and sep_token: the '
            f"tokenizers library's templates have no room for such names. {GET}"
        ) from error
    return made


def _sentencepiece(file: Path) -> Tokenizer:
    """Source: transformers, SpmConverter and XLMRobertaConverter."""
    model = sentencepiece_model.read(file.read_bytes(), str(file))
    if model.algorithm != sentencepiece_model.UNIGRAM:
        raise ExportError(f"{file}: is no Unigram model, which XLM-RoBERTa's is. {MAKE}")
    pieces = [(name, 0.0) for name in xlm_roberta.SPECIAL]
    pieces += [(piece.text, piece.score) for piece in model.pieces[3:]]
    pieces.append(("<mask>", 0.0))
    blanks = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    normalizer = normalizers.Sequence([_normalisation(model.table, file), *blanks])
    made = xlm_roberta.tokenizer(pieces, normalizer, split_blanks=False)
    own = {sentencepiece_model.CONTROL: True, sentencepiece_model.OWN: False}
    made.add_tokens(
        [
            AddedToken(piece.text, normalized=False, special=own[piece.kind])
            for piece in model.pieces
            if piece.kind in own
        ]
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
            f"that transformers 4 and 5 part words differently. {MAKE}"
        )
    return made


def _add_tokens(made: Tokenizer, files: _Files) -> None:
    """Tokens that the other files add, at the ids they say.

    Those that fill a role and are plain names are added with the settings (`load_as_transformers_does`).
    """
    folder, numbered = files.folder, _numbered(files)
    made.add_tokens([numbered[i] for i in sorted(numbered)])
    for i, token in numbered.items():
        if (became := made.token_to_id(token.content)) != i:
            raise ExportError(
                f'{folder}: the token "{token.content}" should be {i}, and becomes {became} behind what '
                f"{' and '.join(present(folder))} holds. {MAKE}"
            )
    known = {token.content for token in made.get_added_tokens_decoder().values()}
    made.add_tokens([token for token in _special(files) if token.content not in known])


def _numbered(files: _Files) -> dict[int, AddedToken]:
    if decoder := named_tokens.numbered(files.settings):
        return {i: token.added() for i, token in decoder.items()}
    special = {token.content for token in _special(files)}
    special |= {token.content for role in SPECIAL if (token := named_tokens.in_role(files.settings, role))}
    added = SettingsFile(files.folder / ADDED)
    for name, i in added.settings.items():
        if i is None:
            raise added.refusal(name, "should be a whole number. Correct the file.")
    return {
        added.integer(name, 0): AddedToken(name, normalized=name not in special, special=name in special)
        for name in added.settings
    }


def _special(files: _Files) -> Iterator[AddedToken]:
    """Tokens with flags of their own that fill roles, and further special ones."""
    for file in files.both():
        for role in SPECIAL:
            token = named_tokens.in_role(file, role)
            if token is not None and token.flags is not None:
                yield token.added(special=True)
        for token in named_tokens.further(file):
            yield (
                token.added(special=True)
                if token.flags is not None
                else token.added(normalized=False, special=True)
            )


def _name(files: _Files, role: str) -> str:
    """The token that fills a role of BERT's."""
    names = {token.content for file in files.both() if (token := named_tokens.in_role(file, role))}
    if len(names) > 1:
        raise ExportError(
            f"{files.folder}: {SETTINGS} and {MAP} name different tokens for {role}. Correct one."
        )
    return names.pop() if names else WORDPIECE_ROLES[role]


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
        raise ExportError(f"{what} converted by transformers ({reason}). {GET}") from error
    if not made.is_fast:
        raise ExportError(f"{what} converted: transformers has that class in Python only. {GET}")
    roles = {role: str(token) for role, token in made.special_tokens_map.items() if role in SPECIAL}
    return ConvertedTokenizer(made.backend_tokenizer, roles)
