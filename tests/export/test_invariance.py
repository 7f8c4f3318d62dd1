"""A text's vectors do not depend on its company at fp32 and fp16 either; tests/engine holds int8 to that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import write_checkpoint

from latebolt import Encoder
from latebolt_export import export_model

words = st.text("abcdefgh", min_size=1, max_size=6)
texts = st.builds(" ".join, st.lists(words, max_size=60))


@pytest.fixture(scope="module", params=("fp32", "fp16"))
def encoder(request, model):
    """Two threads: alone, a text runs on a session with two; in bulk, on one of single-threaded runs."""
    return Encoder.load(model, request.param, threads=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory, bert, head):
    folder = tmp_path_factory.mktemp("invariance")
    (folder / "checkpoint").mkdir()
    write_checkpoint(folder / "checkpoint", "stanford", bert, head)
    export_model(folder / "checkpoint", folder / "model", precisions=("fp32", "fp16"))
    return folder / "model"


@settings(max_examples=40, deadline=None)
@given(text=texts, others=st.lists(texts, max_size=14), place=st.integers(0, 14))
def test_a_text_has_the_same_bits_in_any_company(encoder, text, others, place):
    place = min(place, len(others))
    call = [*others[:place], text, *others[place:]]
    for encode in (encoder.encode_documents, encoder.encode_queries):
        np.testing.assert_array_equal(encode(call)[place], encode([text])[0])


def test_orders_of_bulk_calls_do_not_matter(encoder):
    call = ["a " * n for n in range(1, 90, 7)]
    forth, back = encoder.encode_documents(call), encoder.encode_documents(call[::-1])
    for i in range(len(call)):
        np.testing.assert_array_equal(forth[i], back[len(call) - 1 - i])
