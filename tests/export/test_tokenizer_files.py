"""Tokenizers made of vocab.txt and of sentencepiece models are those that transformers makes of them."""

from __future__ import annotations

import io
import json
import struct
import sys
import time

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from small import vocabulary
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from differential.texts import TEXTS
from differential.writing import LETTERS
from latebolt.errors import ExportError, ModelError
from latebolt.formats import vocabulary as vocabularies
from latebolt.formats.vocabulary import Vocabulary
from latebolt_export.graph import onnx_source
from latebolt_export.source import checkpoint, sentencepiece_model, tokenizer_files
from latebolt_export.source.find import Place

SIGNS = sorted({c for text in TEXTS for c in text if c.isprintable() and not c.isspace()} | set(LETTERS))
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["query", "document", "the", "what", "token", "##s", "##ing", "word", "again", "cafe", "cafe\u0301"]
VOCABULARY = list(dict.fromkeys([*SPECIAL, *SIGNS, *(f"##{sign}" for sign in SIGNS), *WORDS]))
SIZE = len(VOCABULARY)
BERT = {"tokenizer_class": "BertTokenizer"}
FLAGS = {"lstrip": True, "rstrip": True, "normalized": False, "single_word": False}


def write(folder, vocabulary, model_type="bert", **files):
    """A folder with vocab.txt, config.json and further JSON files by their names' beginnings."""
    (folder / "vocab.txt").write_bytes("".join(f"{token}\n" for token in vocabulary).encode())
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def check(folder, tmp_path):
    """Ours equal theirs of the same folder, and what the advice would have made: ids, offsets, vocabulary."""
    ours = Vocabulary(folder, tokenizer_files.convert(folder))
    ours.load_as_transformers_does()
    theirs = AutoTokenizer.from_pretrained(folder)
    assert ours.tokenizer.get_vocab() == theirs.get_vocab()
    for text in [*TEXTS, *(word.upper() + " " + word for word in theirs.get_added_vocab())]:
        mine, other = ours.tokenizer.encode(text), theirs(text, return_offsets_mapping=True)
        assert (text, mine.ids) == (text, other["input_ids"])
        assert mine.offsets == other["offset_mapping"]
    theirs.save_pretrained(tmp_path / "advised")
    advised = Vocabulary(tmp_path / "advised")
    advised.load_as_transformers_does()
    assert advised.frame() == ours.frame()
    assert [advised.tokenizer.encode(text).ids for text in TEXTS] == [
        ours.tokenizer.encode(text).ids for text in TEXTS
    ]
    return ours


WORDPIECE = {
    "nothing told": {},
    "plain": {"tokenizer_config": BERT},
    "cased": {"tokenizer_config": BERT | {"do_lower_case": False}},
    "accents": {"tokenizer_config": BERT | {"do_lower_case": False, "strip_accents": True}},
    "accents kept": {"tokenizer_config": BERT | {"strip_accents": False}},
    "no cjk": {"tokenizer_config": BERT | {"tokenize_chinese_chars": False}},
    "slow settings": {"tokenizer_config": BERT | {"do_basic_tokenize": False, "never_split": ["MiXeD"]}},
    "fast class": {"tokenizer_config": {"tokenizer_class": "BertTokenizerFast"}},
    "distilbert": {
        "tokenizer_config": {"tokenizer_class": "DistilBertTokenizer"},
        "model_type": "distilbert",
    },
    "distilbert by its model": {"model_type": "distilbert"},
    "added": {"tokenizer_config": BERT, "added_tokens": {"[Q] ": SIZE, "[D]": SIZE + 1}},
    "added out of order": {"tokenizer_config": BERT, "added_tokens": {"[D]": SIZE + 1, "[Q]": SIZE}},
    "added special": {
        "tokenizer_config": BERT,
        "added_tokens": {"[Q]": SIZE, "[D]": SIZE + 1},
        "special_tokens_map": {"additional_special_tokens": ["[Q]"]},
    },
    "decoder": {
        "tokenizer_config": BERT
        | {
            "added_tokens_decoder": {
                "3": {"content": "[CLS]", "special": True} | FLAGS,
                str(SIZE): {"content": "[D]", "special": False} | FLAGS,
                str(SIZE + 1): {"content": "query:", "special": True} | FLAGS,
            }
        }
    },
    "further": {"tokenizer_config": BERT | {"additional_special_tokens": ["[Q]", "[unused0]", "query:"]}},
    "map": {
        "tokenizer_config": BERT,
        "special_tokens_map": {
            "mask_token": {"content": "[MASK]"} | FLAGS,
            "additional_special_tokens": ["[D]", {"content": "[Q]"} | FLAGS],
        },
    },
    "other names": {
        "tokenizer_config": BERT | {"cls_token": "[unused0]", "unk_token": "the", "sep_token": "again"}
    },
}


@pytest.mark.parametrize("case", WORDPIECE)
def test_vocab_txt_of_bert(tmp_path, case):
    made = check(write(tmp_path, VOCABULARY, **WORDPIECE[case]), tmp_path)
    assert made.size >= SIZE


@pytest.mark.parametrize("ending", ["\r\n", "\n", ""])
def test_lines_of_vocab_txt(tmp_path, ending):
    """Endings of any system, words twice, an empty line and a blank that Python's splitlines would part."""
    lines = [*VOCABULARY, "", "twice", "a\u2028b", "twice", "last"]
    folder = write(tmp_path, [], tokenizer_config=BERT)
    (folder / "vocab.txt").write_bytes(((ending or "\n").join(lines) + ending).encode())
    check(folder, tmp_path)


def train(folder, name="sentencepiece.bpe.model", **settings):
    """A small sentencepiece model of the texts."""
    lines = [text for text in TEXTS if text.strip() and "\0" not in text] * 3
    model = io.BytesIO()
    usual = {"vocab_size": 300, "hard_vocab_limit": False, "character_coverage": 1.0, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, **usual | settings
    )
    (folder / name).write_bytes(model.getvalue())
    return model.getvalue()


def write_pieces(folder, kind="XLMRobertaTokenizer", model_type="xlm-roberta", **more):
    told = {"tokenizer_class": kind} if kind else {}
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(told | more))
    return folder


XLM_ROBERTA = {
    "nmt_nfkc": {},
    "nmt_nfkc_cf": {"normalization_rule_name": "nmt_nfkc_cf"},
    "blanks kept": {"remove_extra_whitespaces": False},
    "own symbols": {"user_defined_symbols": ["query:", "[Q]"], "control_symbols": ["[D]"]},
    "bytes": {"byte_fallback": True, "vocab_size": 500},
}


@pytest.mark.parametrize("case", XLM_ROBERTA)
def test_sentencepiece_of_xlm_roberta(tmp_path, case):
    train(tmp_path, **XLM_ROBERTA[case])
    made = check(write_pieces(tmp_path), tmp_path)
    assert made.frame().prefix == (0,) and made.frame().suffix == (2,)


def test_further_files_beside_a_sentencepiece_model(tmp_path):
    train(tmp_path)
    size = Vocabulary(write_pieces(tmp_path, ""), tokenizer_files.convert(tmp_path)).size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[Q]": size, "[D] ": size + 1}))
    mask = {"__type": "AddedToken", "content": "<mask>"} | FLAGS | {"lstrip": False}
    write_pieces(tmp_path, "XLMRobertaTokenizerFast", mask_token=mask)
    assert check(tmp_path, tmp_path).id_of("[Q]", "query_token_id") == size


OTHERS = {
    "mpnet": "MPNetTokenizer",
    "electra": "ElectraTokenizer",
    "albert": "AlbertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "roberta": "RobertaTokenizer",
}


@pytest.mark.parametrize("model_type", OTHERS)
def test_other_classes_through_transformers(tmp_path, model_type):
    if model_type in ("mpnet", "electra"):
        write(tmp_path, [*VOCABULARY, "<s>", "<pad>", "</s>", "<mask>"], model_type)
    elif model_type == "roberta":
        tokens = [
            "<s>",
            "<pad>",
            "</s>",
            "<unk>",
            "<mask>",
            *sorted(pre_tokenizers.ByteLevel.alphabet()),
            "th",
            "the",
        ]
        (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
        (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    else:
        train(
            tmp_path,
            {"albert": "spiece.model", "deberta-v2": "spm.model"}.get(
                model_type, tokenizer_files.SENTENCEPIECE
            ),
        )
    check(write_pieces(tmp_path, OTHERS[model_type], model_type), tmp_path)


def test_a_checkpoint_is_read_alike_with_either_file(make):
    before, folder = make("stanford", "before"), make("stanford", "after")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()))
    expected, found = checkpoint.load(before), checkpoint.load(folder)
    assert (found.frame, found.query, found.document) == (expected.frame, expected.query, expected.document)
    one, other = (Tokenizer.from_str(each.tokenizer_json) for each in (expected, found))
    assert [one.encode(text).ids for text in TEXTS] == [other.encode(text).ids for text in TEXTS]


def test_a_graph_is_read_alike_with_either_file(foreign):
    def read():
        return onnx_source.load(Place(foreign, "name"), foreign / "model.onnx")

    expected = read()
    (foreign / "tokenizer.json").unlink()
    (foreign / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()))
    found = read()
    assert (found.frame, found.query, found.document) == (expected.frame, expected.query, expected.document)


def without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)


def test_bert_and_xlm_roberta_need_no_transformers(tmp_path, monkeypatch):
    without_transformers(monkeypatch)
    for folder in (tmp_path / "bert", tmp_path / "xlm"):
        folder.mkdir()
    train(write_pieces(tmp_path / "xlm"))
    for folder in (write(tmp_path / "bert", VOCABULARY, tokenizer_config=BERT), tmp_path / "xlm"):
        assert tokenizer_files.convert(folder) is not None
    write_pieces(tmp_path / "xlm", "CamembertTokenizer")
    message = (
        r"has no tokenizer\.json, and sentencepiece\.bpe\.model of CamembertTokenizer cannot be "
        r"converted without transformers.*pip install 'latebolt\[optimum\]'"
    )
    with pytest.raises(ExportError, match=message):
        tokenizer_files.convert(tmp_path / "xlm")


def own_code(folder, model_type="bert"):
    write(folder, VOCABULARY, model_type, tokenizer_config={"auto_map": {"AutoTokenizer": ["own.Own", None]}})


def damage_table(folder, model):
    table = sentencepiece_model.read(model, "x").table
    broken = model.replace(table, b"\xff" * len(table))
    (folder / tokenizer_files.SENTENCEPIECE).write_bytes(broken)


REFUSED = {
    "own code": (
        own_code,
        "its tokenizer BertTokenizer is code of its own, which is never run. Get a tokenizer",
    ),
    "own code of no name": (
        lambda f: own_code(f, "own"),
        "and its tokenizer is code of its own, which is never run. Get a tokenizer",
    ),
    "a name that no template takes": (
        lambda f: write(f, ["$B:$", *VOCABULARY], tokenizer_config=BERT | {"cls_token": "$B:$"}),
        r'"\$B:\$" and "\[SEP\]" cannot be put around a text as cls_token and sep_token',
    ),
    "python only": (
        lambda f: train(write_pieces(f, "BertGenerationTokenizer"), "spiece.model"),
        r"spiece\.model of BertGenerationTokenizer cannot be converted: .* in Python only\. Get a tokenizer",
    ),
    "unknown class": (
        lambda f: write(f, VOCABULARY, "own", tokenizer_config={"tokenizer_class": "OwnTokenizer"}),
        r"vocab\.txt of OwnTokenizer cannot be converted by transformers \(.*\)\. Get a tokenizer",
    ),
    "no such token": (
        lambda f: write(f, [token for token in VOCABULARY if token != "[CLS]"]),
        r'vocab\.txt: lacks the token "\[CLS\]"',
    ),
    "not text": (lambda f: (write(f, []) / "vocab.txt").write_bytes(b"\xff"), r"vocab\.txt: is not UTF-8"),
    "two names": (
        lambda f: write(
            f,
            VOCABULARY,
            tokenizer_config=BERT | {"unk_token": "[UNK]"},
            special_tokens_map={"unk_token": "the"},
        ),
        "tokenizer_config.json and special_tokens_map.json name different tokens for unk_token",
    ),
    "other id": (
        lambda f: write(f, VOCABULARY, tokenizer_config=BERT, added_tokens={"[Q]": SIZE + 5}),
        rf'the token "\[Q\]" should be {SIZE + 5}, and becomes {SIZE} behind what vocab\.txt holds',
    ),
    "other algorithm": (
        lambda f: train(write_pieces(f), model_type="bpe"),
        r"sentencepiece\.bpe\.model: is no Unigram model",
    ),
    **{
        f"{rule}: line breaks stay": (
            lambda f, rule=rule: train(write_pieces(f), normalization_rule_name=rule),
            "does not make a blank of a line break.*transformers 4 and 5 part words differently",
        )
        for rule in ("identity", "nfkc", "nfkc_cf")
    },
    "damaged table": (
        lambda f: damage_table(f, train(write_pieces(f))),
        r"sentencepiece\.bpe\.model: its normalisation table is damaged",
    ),
    "no model": (
        lambda f: (write_pieces(f) / "sentencepiece.bpe.model").write_bytes(b"version https://git-lfs"),
        r"sentencepiece\.bpe\.model: is no sentencepiece model .*Download it again",
    ),
    "nothing": (
        write_pieces,
        r"has no tokenizer\.json, and nothing that one is made of\. Download all files of the model",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_converted_is_said(tmp_path, fault):
    make, message = REFUSED[fault]
    make(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        Vocabulary(tmp_path, tokenizer_files.convert(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", REFUSED)
def test_transformers_is_advised_where_it_does_what_is_advised(tmp_path, fault):
    """In the other cases that very call fails, writes nothing or runs code that a checkpoint brings."""
    REFUSED[fault][0](tmp_path)
    with pytest.raises(ModelError) as caught:
        Vocabulary(tmp_path, tokenizer_files.convert(tmp_path))
    if tokenizer_files.GET in str(caught.value) and "code of its own" not in str(caught.value):
        try:
            AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
        except Exception:  # noqa: BLE001 - whatever it is
            return
        assert not (tmp_path / "tokenizer.json").exists()
    elif vocabularies.MAKE in str(caught.value):
        AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
        Vocabulary(tmp_path).load_as_transformers_does()


def test_an_engine_without_the_exporter_is_told_to_make_one(tmp_path):
    write(tmp_path, VOCABULARY, tokenizer_config=BERT)
    with pytest.raises(
        ModelError, match=r"has no tokenizer\.json\. Make a tokenizer\.json with transformers: Auto"
    ):
        Vocabulary(tmp_path)


def test_a_tokenizer_json_is_not_made_anew(tmp_path):
    write(tmp_path, VOCABULARY)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_files.convert(tmp_path) is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trained"))


def test_pieces_are_those_that_the_library_reads(trained):
    library = sentencepiece.SentencePieceProcessor(model_proto=trained)
    found = sentencepiece_model.read(trained, "x")
    assert [(piece.text, piece.score) for piece in found.pieces] == [
        (library.id_to_piece(i), library.get_score(i)) for i in range(library.get_piece_size())
    ]
    assert [piece.kind == sentencepiece_model.CONTROL for piece in found.pieces] == [
        library.is_control(i) for i in range(library.get_piece_size())
    ]


@given(st.data())
def test_a_damaged_sentencepiece_model_is_an_error_that_names_it(trained, data):
    raw = bytearray(trained)
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3)) if raw else 0):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for some in (bytes(raw), data.draw(st.binary(max_size=40))):
        try:
            sentencepiece_model.read(some, "spiece.model")
        except ExportError as error:
            assert "spiece.model: is no sentencepiece model" in str(error)


def message(number, payload):
    """One field of a protobuf message that holds bytes, of fewer than 128."""
    return bytes([number << 3 | 2, len(payload)]) + payload


PIECE = message(1, b"a") + b"\x15" + struct.pack("<f", -1.5)


def test_a_number_of_more_than_ten_bytes_is_refused_at_once():
    assert sentencepiece_model.read(message(1, PIECE + b"\x18" + b"\x81" + b"\x80" * 8 + b"\0"), "x").pieces[
        0
    ] == sentencepiece_model.Piece("a", -1.5, 1)
    for number in (b"\x80" * 10 + b"\0", b"\xff" * 1_000_000):
        began = time.process_time()
        with pytest.raises(ExportError, match=r"x: is no sentencepiece model \(a number without end\)"):
            sentencepiece_model.read(number, "x")
        assert time.process_time() - began < 0.2  # added up byte by byte, the second takes seconds


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused(score):
    piece = message(1, b"a") + b"\x15" + struct.pack("<f", score)
    with pytest.raises(ExportError, match=r"x: is no sentencepiece model \(a piece has the score"):
        sentencepiece_model.read(message(1, piece), "x")


def test_a_model_that_says_nothing_of_normalisation_has_no_table():
    found = sentencepiece_model.read(message(1, PIECE) + message(3, message(1, b"identity")), "x")
    assert (found.table, found.algorithm) == (b"", sentencepiece_model.UNIGRAM)
