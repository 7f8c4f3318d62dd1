"""Our MultiVectorEncoder beside that of sentence-transformers, on the same checkpoint."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from small import DIM, HIDDEN, LAYERS, vocabulary, write_checkpoint, write_tokenizer
from transformers import BertConfig, BertModel

from latebolt.adapters.sentence_transformers import MultiVectorEncoder

if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("sentence-transformers 6 needs transformers 5: make test-frameworks", allow_module_level=True)

from sentence_transformers import MultiVectorEncoder as TheirEncoder
from sentence_transformers.multi_vector_encoder.evaluation import (
    MultiVectorInformationRetrievalEvaluator,
    MultiVectorTripletEvaluator,
)
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
from sentence_transformers.util.similarity import maxsim_pairwise, mean_maxsim

QUERIES = ["how do i unpack a zip file", "split a text", "a"]
DOCUMENTS = ["a zip file is unpacked", "a text, split; at: whitespace!", "other words " * 12, "end"]


class Graph(torch.nn.Module):
    """Encoder and head, as the hub's ONNX graphs of ColBERT models hold them."""

    def __init__(self, bert: BertModel, head: torch.Tensor) -> None:
        super().__init__()
        self.bert, self.head = bert, head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return torch.nn.functional.normalize(hidden @ self.head.T, dim=-1)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[TheirEncoder, MultiVectorEncoder]:
    """The same random weights: for theirs a checkpoint in Stanford's layout, for ours an ONNX graph."""
    torch.manual_seed(11)
    config = BertConfig(
        vocab_size=len(vocabulary()), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=192, attn_implementation="eager",
    )  # fmt: skip
    bert, head = BertModel(config).eval(), torch.randn(DIM, HIDDEN)
    for parameter in bert.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    checkpoint, made = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("onnx")
    bert.config.architectures = ["HF_ColBERT"]  # what sentence-transformers knows the layout by
    write_checkpoint(checkpoint, "stanford", bert, head)
    write_tokenizer(made)
    config.save_pretrained(made)
    (made / "artifact.metadata").write_text((checkpoint / "artifact.metadata").read_text())
    ids = torch.ones(2, 9, dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in [*names, "contextual"]}
    torch.onnx.export(
        Graph(bert, head).eval(), (ids, ids), str(made / "model.onnx"), dynamo=False, opset_version=17,
        input_names=names, output_names=["contextual"], dynamic_axes=axes,
    )  # fmt: skip
    return TheirEncoder(str(checkpoint), device="cpu"), MultiVectorEncoder(made)


def test_vectors_are_the_same(both):
    theirs, ours = both
    for name, texts in (("encode_query", QUERIES), ("encode_document", DOCUMENTS)):
        expected = getattr(theirs, name)(texts, convert_to_numpy=True)
        found = getattr(ours, name)(texts)
        assert [m.shape for m in found] == [m.shape for m in expected]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
        one = getattr(ours, name)(texts[0])
        assert type(one) is type(getattr(theirs, name)(texts[0], convert_to_numpy=True))
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    assert ours.similarity_fn_name == theirs.similarity_fn_name


def test_tensors_where_they_are_asked_for(both):
    theirs, ours = both
    for settings in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
        found = ours.encode_document(DOCUMENTS, **settings)
        assert all(isinstance(each, torch.Tensor) and each.dtype == torch.float32 for each in found)
    queries = ours.encode_query(QUERIES, convert_to_tensor=True)
    scores = ours.similarity(queries, found)
    torch.testing.assert_close(scores, theirs.similarity(queries, found), atol=1e-5, rtol=1e-5)
    mixed = ours.similarity(ours.encode_query(QUERIES), [each.bfloat16() for each in found])
    torch.testing.assert_close(mixed, scores, atol=0.3, rtol=0)
    padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
    torch.testing.assert_close(ours.similarity(queries, padded), theirs.similarity(queries, padded))
    pairs = ours.similarity_pairwise(queries, found[:3])
    torch.testing.assert_close(pairs, maxsim_pairwise(queries, found[:3]), atol=1e-5, rtol=1e-5)
    mean = ours.similarity(queries, found, length_normalize=True)
    torch.testing.assert_close(mean, mean_maxsim(queries, found), atol=1e-5, rtol=1e-5)
    empty = [found[0], found[0][:0]]
    torch.testing.assert_close(ours.similarity(queries, empty), theirs.similarity(queries, empty))
    assert ours.similarity([], found).shape == theirs.similarity([], found).shape


def test_their_pooling_works_on_ours(both):
    theirs, ours = both
    pooling = HierarchicalTokenPooling(pool_factor=2)
    expected = theirs.encode_document(DOCUMENTS, token_pooling=pooling, convert_to_numpy=True)
    found = ours.encode_document(DOCUMENTS, token_pooling=pooling)
    assert [m.shape for m in found] == [m.shape for m in expected]
    assert all(isinstance(m, np.ndarray) for m in found)
    assert len(ours.encode_query(QUERIES[0], token_pooling=pooling)) == len(ours.encode_query(QUERIES[0]))


def test_their_evaluators_measure_ours(both):
    theirs, ours = both
    tensors = MultiVectorEncoder(ours.encoder, convert_to_tensor=True)
    evaluator = MultiVectorInformationRetrievalEvaluator(
        queries={str(n): text for n, text in enumerate(QUERIES)},
        corpus={f"d{n}": text for n, text in enumerate(DOCUMENTS)},
        relevant_docs={"0": {"d0"}, "1": {"d1"}, "2": {"d3"}},
        name="small",
    )
    expected, found = evaluator(theirs), tensors.evaluate(evaluator)
    assert found.keys() == expected.keys() and "small_maxsim_ndcg@10" in found
    assert found == pytest.approx(expected, abs=1e-6)
    triplets = MultiVectorTripletEvaluator(QUERIES[:2], DOCUMENTS[:2], DOCUMENTS[2:], name="three")
    assert triplets(tensors) == pytest.approx(triplets(theirs))


def test_wrong_calls_fail_as_theirs_do(both):
    calls = [
        lambda model: model.encode_query(QUERIES, batch_size=0),
        lambda model: model.encode_query(QUERIES, prompt_name="nix"),
        lambda model: model.encode_query(QUERIES, output_value="sentence_embedding"),
        lambda model: model.similarity_pairwise(np.ones((1, 2, DIM)), np.ones((2, 2, DIM))),
        lambda model: setattr(model, "similarity_fn_name", "cosine"),
    ]
    for call in calls:
        for model in both:
            with pytest.raises(ValueError):
                call(model)


def test_ours_imports_neither_torch_nor_sentence_transformers():
    code = (
        "from latebolt.adapters.sentence_transformers import MultiVectorEncoder as M; m = M();"
        "m.similarity(m.encode_query(['a']), m.encode_document(['b']));"
        "import sys; assert not {'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
