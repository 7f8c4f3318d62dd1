"""What made the data of the built-in models: which pieces a vocabulary keeps, vectors a head is fitted on."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import normalizers

from latebolt.errors import RuntimeUnavailable
from latebolt.values import TokenVectors
from latebolt_export import cut_vocabulary, fit_head
from latebolt_export.cut_vocabulary import ENGLISH, SENTENCES, WORDS, Counts, Text, choose, losses
from latebolt_export.source import xlm_roberta

PIECES = [*xlm_roberta.SPECIAL, "▁", "a", "b", "A", "B", "ab", "▁ab", "▁Ab", "▁AB", "ሰላ"]
IDS = {piece: i for i, piece in enumerate(PIECES)}


def tokenizer(pieces=PIECES):
    scored = [(piece, -10.0 + len(piece)) for piece in pieces]
    return xlm_roberta.tokenizer(scored, normalizers.NFKC(), split_blanks=True)


def by_piece(need):
    return {piece: round(float(share), 6) for piece, share in zip(PIECES, need, strict=True) if share}


def test_words_count_in_every_way_they_are_written():
    counts = Counts(tokenizer(), PIECES)
    counts.add_words("fr", ["ab"], [2.0])
    total = 1 + cut_vocabulary.CAPITALS + cut_vocabulary.ALL_CAPITALS
    shares = {
        "▁ab": 1 / total,
        "▁Ab": cut_vocabulary.CAPITALS / total,
        "▁AB": cut_vocabulary.ALL_CAPITALS / total,
    }
    assert by_piece(counts.need()) == {piece: round(share, 6) for piece, share in shares.items()}


def test_words_of_a_language_without_blanks_or_case_stand_inside_text():
    counts = Counts(tokenizer(), PIECES)
    counts.add_words("zh", ["ab", "a"], [3.0, 1.0])
    assert by_piece(counts.need()) == {"ab": 0.75, "a": 0.25}


def test_languages_count_by_weight_and_their_sources_alike():
    counts = Counts(tokenizer(), PIECES)
    counts.add_texts("en", ["a"], WORDS)
    counts.add_texts("tatoeba fra", ["ab"], SENTENCES)
    counts.add_texts("tatoeba fra", ["Ab Ab Ab"], SENTENCES)
    counts.add_texts("silent", [""], WORDS)
    need = by_piece(counts.need())
    assert (need["▁ab"], need["▁Ab"]) == (SENTENCES / 2, SENTENCES / 2)
    assert need["▁"] + need["a"] == pytest.approx(ENGLISH * WORDS)


def test_a_script_that_no_list_covers_counts_by_its_scores():
    counts = Counts(tokenizer(), PIECES)
    counts.add_scripts(np.zeros(len(PIECES)))
    assert by_piece(counts.need()) == {"ሰላ": cut_vocabulary.SCORES}


def test_special_pieces_and_single_characters_stay_then_those_that_are_needed_most():
    need = np.zeros(len(PIECES) + 1)
    need[[IDS["▁AB"], IDS["▁ab"], IDS["ab"]]] = 3, 2, 1
    need[-1] = 9
    kept = choose(need, [*PIECES, "<mask>"], 11)
    assert [piece for piece, keep in zip(PIECES, kept, strict=False) if keep] == [
        *xlm_roberta.SPECIAL, "▁", "a", "b", "A", "B", "▁ab", "▁AB",
    ]  # fmt: skip
    assert not kept[-1]  # no text has a <mask>
    assert choose(need, [*PIECES, "<mask>"], 0).sum() == 9


def test_losses_are_of_the_half_that_nothing_was_learned_from():
    cut = tokenizer([piece for piece in PIECES if piece != "▁ab"])
    text = Text.halved("t", "fr", WORDS, ["Ab", "ab ab", "Ab", "Ab Ab"])
    assert (text.learned, text.held_out) == (["Ab", "Ab"], ["ab ab", "Ab Ab"])
    nothing = Text.halved("nothing", "fr", WORDS, ["one text alone"])
    assert losses(tokenizer(), cut, [text, nothing]) == {"t": 50.0}  # ▁ ab for ▁ab, twice in four


def test_sentences_are_those_of_other_languages_than_english(tmp_path):
    (tmp_path / "tatoeba.deu-eng.deu").write_text("eins\n\nzwei\ndrei\n")
    (tmp_path / "tatoeba.deu-eng.eng").write_text("one\n")
    (text,) = cut_vocabulary.sentences(tmp_path)
    assert (text.name, text.learned, text.held_out) == ("tatoeba deu", ["eins", "drei"], ["zwei"])


@pytest.mark.parametrize("missing", ["wordfreq", "pythainlp"])
def test_missing_word_lists_are_named_before_anything_is_read(tmp_path, monkeypatch, missing):
    found = importlib.util.spec_from_file_location("present", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found)
    with pytest.raises(
        RuntimeUnavailable, match=rf"counts of words come .* pip install --no-deps {missing}$"
    ):
        cut_vocabulary.word_list_folders()
    done = CliRunner().invoke(cut_vocabulary.main, ["--out", "x.npy", "--tatoeba", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.startswith("Error: counts of words come") and done.output.count("\n") == 1


def test_vectors_of_parts_are_joined_in_half_the_memory():
    values = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    parts = [
        TokenVectors(values[:3], np.array([0, 2, 3])),
        TokenVectors(values[3:3], np.array([0])),
        TokenVectors(values[3:], np.array([0, 0, 3])),
    ]
    joint = fit_head.halved(iter(parts))
    assert joint.offsets.tolist() == [0, 2, 3, 3, 6]
    np.testing.assert_array_equal(joint.values.numpy(), values.astype(np.float16))
    np.testing.assert_array_equal(joint[3].numpy(), values[3:].astype(np.float16).astype(np.float32))


def test_a_head_names_the_command_that_made_it(tmp_path, monkeypatch):
    """All of it: the multilingual head is none that was trained, which only --steps says."""
    from safetensors import safe_open

    (tmp_path / "c").mkdir()
    write = (tmp_path / "c").joinpath
    write("corpus.jsonl").write_text("".join(f'{{"_id": "{i}", "text": "a text {i}"}}\n' for i in range(9)))
    write("queries.jsonl").write_text('{"_id": "q", "text": "text 3"}\n')
    write("qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    encoders = []

    def build_headless(found, name, out):
        encoders.append((found, name))

    class Encoder:
        def __enter__(self):
            return self

        def __exit__(self, *failure):
            encoders.append("closed")

        def iter_documents(self, texts):
            for i, _ in enumerate(texts):
                yield TokenVectors(np.eye(256, dtype=np.float32)[i : i + 2], np.array([0, 2]))

        def encode_queries(self, texts):
            return TokenVectors(np.eye(256, dtype=np.float32)[: len(texts)], np.arange(len(texts) + 1))

    monkeypatch.setitem(fit_head.SOURCES, "multilingual", lambda: "its checkpoint")
    monkeypatch.setattr(fit_head.recipe, "build_headless", build_headless)
    monkeypatch.setattr(fit_head.Encoder, "load", lambda *given, **more: Encoder())
    arguments = [str(tmp_path / "c"), "--out", str(tmp_path / "h.safetensors"), "--steps", "0"]
    arguments += ["--threads", "1"]  # of this process from here on; two would wait for each other by spinning
    done = CliRunner().invoke(fit_head.main, [*arguments, "--model", "multilingual"])
    assert done.exit_code == 0, done.output
    assert encoders == [("its checkpoint", "multilingual"), "closed"]
    with safe_open(tmp_path / "h.safetensors", framework="np") as file:
        about = json.loads(file.metadata()["about"])
        assert file.get_tensor("linear.weight").shape == (128, 256)
    assert about["made_by"] == "python -m latebolt_export.fit_head --model multilingual --steps 0"
    assert about["collections"] == ["c"]
