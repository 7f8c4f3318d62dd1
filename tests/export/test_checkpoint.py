"""Every layout resolves to the same kind of Checkpoint; every fault of a folder has its own message."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from latebolt.contract import Expansion, Frame, TextRules
from latebolt.errors import ModelError
from latebolt.formats.vocabulary import Vocabulary
from latebolt_export.source import checkpoint

# Ids in the tests' vocabulary: 7 special tokens, 26 letters, 26 continued letters, then punctuation.
PUNCTUATION = tuple(range(59, 91))
PAD, MASK, UNUSED0, UNUSED1, UNKNOWN, Q, D = 0, 6, 1, 2, 3, 91, 92


def edit(path, **changes):
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def test_stanford_layout(make, head):
    found = checkpoint.load(make("stanford"))
    assert found.frame == Frame(prefix=(4,), suffix=(5,), pad=0)
    expansion = Expansion(MASK, attend=True)
    # A text's own padding tokens, as the library treats them.
    assert found.query == TextRules(16, marker=UNUSED0, expansion=expansion, swaps=((PAD, MASK),))
    assert found.document == TextRules(100, marker=UNUSED1, skiplist=(PAD, *PUNCTUATION))
    assert (found.architecture, found.max_tokens, found.name) == ("bert", 192, "checkpoint")
    assert "embeddings.word_embeddings.weight" in found.state
    (projection,) = found.projections
    assert torch.equal(projection.layers[0].weight, head)


def test_stanford_defaults_and_settings(make):
    folder = make("stanford")
    (folder / "artifact.metadata").write_text('{"query_token_id": "[Q] ", "mask_punctuation": false}')
    found = checkpoint.load(folder)
    expansion = Expansion(MASK, attend=False)
    assert found.query == TextRules(32, marker=Q, expansion=expansion, swaps=((PAD, MASK),))
    assert found.document == TextRules(192, marker=UNUSED1, skiplist=(PAD,))  # 220, bounded by the positions


def test_pylate_layout_applies_every_dense(make):
    found = checkpoint.load(make("pylate"))
    assert found.query == TextRules(20, marker=Q, strip=True)
    # PyLate's dialect: a word that is no token counts as the unknown one.
    assert found.document == TextRules(90, marker=D, skiplist=(UNKNOWN, 59, 70), strip=True)
    first, second = found.projections[0].layers
    assert (first.activation, second.activation) == ("tanh", "identity")
    assert first.residual is not None
    assert second.bias is not None
    assert found.projections[0].dim == 16


def test_pylate_prefixes_are_tokens(make):
    folder = make("pylate")
    edit(folder / "config_sentence_transformers.json", document_prefix="")
    assert (checkpoint.load(folder).document.prompt, checkpoint.load(folder).document.marker) == ("", None)
    edit(folder / "config_sentence_transformers.json", query_prefix="search: ")
    with pytest.raises(ModelError, match=r'query_prefix "search: " is no token .*untrained weights'):
        checkpoint.load(folder)


def test_pylate_defaults(make):
    folder = make("pylate")
    (folder / "config_sentence_transformers.json").unlink()
    found = checkpoint.load(folder)
    assert found.query == TextRules(32, marker=Q, expansion=Expansion(MASK, attend=False), strip=True)
    assert found.document == TextRules(180, marker=D, skiplist=PUNCTUATION, strip=True)


def test_plain_encoder_takes_its_head_from_a_file(make, tmp_path, head):
    save_file({"linear.weight": head}, tmp_path / "head.safetensors")
    found = checkpoint.load(make("plain"), tmp_path / "head.safetensors")
    assert (found.query, found.document) == (TextRules(128), TextRules(192))
    assert found.projections[0].source == "head.safetensors"


def test_head_files_replace_the_folders_own(make, tmp_path):
    for dim in (16, 8):
        save_file({"linear.weight": torch.zeros(dim, 32)}, tmp_path / f"{dim}.safetensors")
    found = checkpoint.load(make("stanford"), [tmp_path / "16.safetensors", tmp_path / "8.safetensors"])
    assert [projection.dim for projection in found.projections] == [16, 8]


def test_saved_tokenizer_neither_truncates_nor_pads(make):
    saved = json.loads(checkpoint.load(make("stanford")).tokenizer_json)
    assert (saved["truncation"], saved["padding"]) == (None, None)


def test_licence_comes_from_the_model_card(make):
    folder = make("stanford")
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\nlicense: other\n")
    assert checkpoint.load(folder).licence == "mit"
    (folder / "README.md").write_text("license: other\n")
    assert checkpoint.load(folder).licence == ""


def test_the_two_skiplist_dialects_differ_on_words_of_several_pieces(make):
    vocabulary = Vocabulary(make("plain"))
    assert vocabulary.first_pieces(["ab", "!"]) == (7, 59)
    assert vocabulary.exact_tokens(["ab", "!"]) == (UNKNOWN, 59)


def remove(name):
    return lambda folder: (folder / name).unlink()


FAULTS = {
    "no config": (remove("config.json"), r"has no config\.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), r"config\.json: cannot be read as JSON"),
    "no tokenizer": (remove("tokenizer.json"), r"has no tokenizer\.json.*Download all files"),
    "broken tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        r"tokenizer\.json: is not a tokenizer",
    ),
    "no weights": (remove("model.safetensors"), r"has no model\.safetensors"),
    "architecture": (
        lambda f: edit(f / "config.json", model_type="t5"),
        'architecture "t5" is not supported: it is an encoder with a decoder',
    ),
    "positions": (
        lambda f: edit(f / "config.json", position_embedding_type="relative_key"),
        '"relative_key" positions is not supported',
    ),
    "no width": (lambda f: edit(f / "config.json", hidden_size=None), "config.json lacks hidden_size"),
    "marker": (
        lambda f: edit(f / "artifact.metadata", query_token_id="[nobody]"),
        r'query_token_id names the token "\[nobody\]", which tokenizer\.json lacks',
    ),
    "head width": (
        lambda f: edit(f / "artifact.metadata", dim=64),
        r"linear\.weight should have 64 rows .*got 16",
    ),
    "setting": (
        lambda f: edit(f / "artifact.metadata", doc_maxlen="long"),
        "doc_maxlen should be a whole number",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_gets_one_line_that_names_the_fault(make, fault):
    damage, message = FAULTS[fault]
    folder = make("stanford")
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere: there is no such checkpoint folder"):
        checkpoint.load(tmp_path / "nowhere")


def test_an_encoder_without_head_says_how_to_give_one(make):
    with pytest.raises(ModelError, match=r"no projection head.*--head FILE\.safetensors.*\[dim, 32\]"):
        checkpoint.load(make("plain"))


def test_a_head_file_without_the_weight_is_named(make, tmp_path):
    save_file({"other": torch.zeros(2)}, tmp_path / "head.safetensors")
    with pytest.raises(ModelError, match=r"head\.safetensors: should hold linear\.weight .*holds other"):
        checkpoint.load(make("plain"), tmp_path / "head.safetensors")


def test_a_dense_of_another_shape_is_named(make):
    folder = make("pylate")
    edit(folder / "2_Dense" / "config.json", out_features=48)
    with pytest.raises(ModelError, match=r"2_Dense: linear\.weight should be \[48, 24\].*got \[16, 24\]"):
        checkpoint.load(folder)
