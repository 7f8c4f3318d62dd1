"""The built-in model for many languages: complete, small enough, and it reads what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

import latebolt
from latebolt import contract

SHIPPED = Path(latebolt.__file__).parent / "models" / "multilingual"
PASSAGES = [
    "Mount Berlin is a glacier-covered volcano in Antarctica.",
    "Berlin is the capital of Germany, with more than 3.85 million inhabitants.",
    "Irving Berlin was an American composer and songwriter.",
    "Bread is baked at 230 degrees.",
]


@pytest.fixture(scope="module")
def multilingual():
    return latebolt.Encoder.load("multilingual", threads=1)


def test_the_folder_is_complete_and_small():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    names = {path.relative_to(SHIPPED).as_posix() for path in files}
    assert names == {
        "latebolt.json", "confidence.json", "tokenizer.json", "onnx/model_int8.onnx", "LICENSE", "README.md",
        "report.json", "REPORT.md",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files) < 64_000_000
    made = contract.read(SHIPPED)
    assert (made.name, made.source.licence, [head.dim for head in made.heads]) == (
        "multilingual", "MIT", [128, 96, 64]
    )  # fmt: skip
    assert (made.query.prompt, made.document.prompt) == ("query: ", "passage: ")


@pytest.mark.parametrize(
    "question",
    [
        "How many people live in Berlin?",
        "Wie viele Einwohner hat Berlin?",
        "¿Cuántos habitantes tiene Berlín?",
        "Сколько людей живёт в Берлине?",
        "柏林有多少人口？",
        "كم عدد سكان برلين؟",
        "Berlin'in nüfusu kaçtır?",
        "बर्लिन की जनसंख्या कितनी है?",
    ],
)
def test_questions_of_many_languages_find_the_english_passage(multilingual, question):
    assert multilingual.rerank(question, PASSAGES)[0].id == 1


def test_punctuation_of_any_script_has_no_vector(multilingual):
    with_it, without = multilingual.encode_documents(["你好，世界。", "你好世界"])
    assert len(with_it) <= len(without) + 1  # a piece may be cut at the mark
    assert len(multilingual.encode_documents(["। 。 ؟ ! ?"])[0]) <= 4  # markers, prompt


def test_any_character_can_be_spelt(multilingual):
    [vectors] = multilingual.encode_documents(["ꙮ 𓀀 한국어 ქართული አማርኛ 🙂"])
    assert len(vectors) > 5


def test_narrow_widths_are_its_first_components(multilingual):
    wide = multilingual.encode_queries(["guten Tag"])[0]
    narrow = multilingual.with_dim(64).encode_queries(["guten Tag"])[0]
    first = wide[:, :64] / ((wide[:, :64] ** 2).sum(1, keepdims=True) ** 0.5)
    assert abs(first - narrow).max() < 1e-5
