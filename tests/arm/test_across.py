"""What one kind of machine writes another reads, and what both make of the same is the same or nearly so.

Run on both, so that each reads what the other has made.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from arm import made as making
from latebolt import Index
from latebolt.index.store.check import check_index

PLAIN = [bits for bits in making.BITS if bits >= 8]
RESIDUAL = [bits for bits in making.BITS if bits < 8]
INDEXES = [f"{bits}{end}.index" for bits in making.BITS for end in ("", "-grown")]

# Least cosine of a token's vectors. ONNX Runtime's products of bytes are exact everywhere, but what it does
# to floats around them rounds differently, and a rounding that falls the other way is a byte's step.
LEAST_COSINE = 0.998


@pytest.fixture(scope="module")
def inputs(made: Path) -> making.Inputs:
    return making.Inputs(made / "inputs.npz")


@pytest.mark.parametrize("name", INDEXES)
def test_the_others_index_is_whole_and_is_searched_as_there(other, inputs, name):
    assert check_index(other / name) == []
    said = json.loads((other / "hits.json").read_text())[name]
    for mine, theirs in zip(making.found(other / name, inputs), said, strict=True):
        assert [id for id, _ in mine] == [id for id, _ in theirs]
        np.testing.assert_allclose([score for _, score in mine], [score for _, score in theirs], rtol=1e-5)


@pytest.mark.parametrize("name", INDEXES)
def test_documents_come_back_as_the_other_wrote_them(here, other, name):
    read = []
    for folder in (here, other):
        with Index.open(folder / name) as index:
            read.append([(each.id, each.text, each.metadata) for each in index.documents()])
    assert read[0] == read[1] and len(read[0]) >= making.N_DOCUMENTS - 1


@pytest.mark.parametrize("bits", PLAIN)
def test_plain_codes_are_the_same_bytes(here, other, bits):
    for end in ("", "-grown"):
        mine, theirs = (dict(making.arrays(folder / f"{bits}{end}.index")) for folder in (here, other))
        assert mine.keys() == theirs.keys() and len(mine) >= 3
        for name, array in mine.items():
            np.testing.assert_array_equal(array, theirs[name], name)


@pytest.mark.parametrize("bits", making.BITS)
def test_the_others_index_grows_here_as_there(made, bits):
    """One codec, the same new vectors, two kinds of machine."""
    arm, x86 = made / "aarch64", made / "x86_64"
    there, here = (
        dict(making.arrays(path))
        for path in (x86 / f"{bits}-grown.index", arm / f"{bits}-of-the-other.index")
    )
    assert there.keys() == here.keys()
    for name, array in there.items():
        if bits >= 8 or ("codes.npy" not in name and "norm.npy" not in name):
            np.testing.assert_array_equal(array, here[name], name)
        else:
            # A float that lies on the edge between two codes falls either way.
            assert (array != here[name]).mean() < 0.002, name


@pytest.mark.parametrize("bits", RESIDUAL)
def test_a_codec_learnt_here_is_as_good_as_one_learnt_there(here, other, bits):
    hits = [json.loads((folder / "hits.json").read_text())[f"{bits}.index"] for folder in (here, other)]
    shared = [len({id for id, _ in a} & {id for id, _ in b}) for a, b in zip(*hits, strict=True)]
    assert np.mean(shared) >= 0.8 * making.K


@pytest.mark.parametrize("model", making.MODELS)
def test_texts_have_the_vectors_that_they_have_there(here, other, model):
    with np.load(here / f"{model}.npz") as mine, np.load(other / f"{model}.npz") as theirs:
        for kind in ("queries", "documents"):
            assert mine[kind].shape == theirs[kind].shape
            assert (mine[kind] * theirs[kind]).sum(axis=1).min() > LEAST_COSINE


def test_what_the_other_made_can_be_added_to(other, inputs, tmp_path):
    path = shutil.copytree(other / "2.index", tmp_path / "2.index")
    making.grow(path, inputs)
    assert check_index(path) == []
    assert len(Index.open(path)) == making.N_DOCUMENTS - 1 + making.N_LATER
