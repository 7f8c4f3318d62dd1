"""An addition of texts in a script that the model does not read says so, once a handle of an index."""

from __future__ import annotations

import logging
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from latebolt import Encoder, Index, TokenVectors
from latebolt.encoder import legibility
from latebolt.encoder.tally import gathered
from latebolt.errors import IndexLocked
from latebolt.index.ingest import sources
from latebolt.index.store.store import Store

RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах."
GERMAN = "Alle Menschen sind frei und gleich an Würde und Rechten geboren, ohne Ausnahme."


@pytest.fixture
def told(caplog):
    """The messages of the package's logger."""
    caplog.set_level(logging.WARNING, "latebolt")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "latebolt"]


@pytest.fixture
def index(tmp_path, encoder):
    return Index.create(tmp_path / "index", encoder)


def test_it_is_told_once_a_handle(index, told):
    index.add([RUSSIAN] * 3)
    [message] = told()
    assert 'model "starter"' in message and 'Encoder.load("multilingual")' in message
    index.add([RUSSIAN])
    assert len(told()) == 1
    Index.open(index.path, index.encoder).add([RUSSIAN])
    pickle.loads(pickle.dumps(index)).add([RUSSIAN])
    assert len(told()) == 3


def test_threads_tell_it_once(index, told, monkeypatch):
    warned = legibility.warn

    def slowly(*arguments, **named):  # long enough for the others to come as far
        time.sleep(0.05)
        return warned(*arguments, **named)

    monkeypatch.setattr(legibility, "warn", slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: index.add([RUSSIAN] * 3), range(4)))
    assert len(told()) == 1 and len(index) == 12


def test_an_addition_that_is_refused_tells_nothing(index, told, monkeypatch):
    def locked(store, timeout):
        raise IndexLocked("another process is writing")

    monkeypatch.setattr(Store, "writer", locked)
    with pytest.raises(IndexLocked):
        index.add([RUSSIAN] * 3)
    assert told() == []


def test_what_was_told_is_not_looked_for_again(index, told, monkeypatch):
    index.add([RUSSIAN] * 3)
    monkeypatch.setattr(legibility, "sampled", lambda texts: pytest.fail("looked at"))
    index.add([RUSSIAN] * 3)
    assert len(told()) == 1


def test_it_is_told_whenever_such_texts_come_first(index, told):
    index.add([GERMAN] * 5)
    index.add([GERMAN] * 5 + [RUSSIAN])
    assert told() == []
    index.add([RUSSIAN])
    assert len(told()) == 1


def test_it_is_told_ahead_of_the_work(index, told, monkeypatch):
    def encode(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "encode_documents", encode)
    with pytest.raises(KeyboardInterrupt):
        index.add([RUSSIAN] * 3)
    assert len(told()) == 1


def test_of_a_stream_what_follows_is_looked_at_too(index, told, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 4)
    index.add(text for text in [GERMAN] * 4 + [RUSSIAN] * 8)
    assert len(told()) == 1
    index.add(text for text in [RUSSIAN] * 9)
    assert len(told()) == 1


def test_of_a_stream_it_is_told_once(index, told, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 4)
    index.add(text for text in [RUSSIAN] * 12)
    assert len(told()) == 1


def test_passages_of_long_texts(tmp_path, encoder, told):
    index = Index.create(tmp_path / "index", encoder, passage_tokens=50)
    index.add([(GERMAN + " ") * 30])
    assert told() == []
    index.add([(RUSSIAN + " ") * 30])
    assert len(told()) == 1


def test_a_caller_that_gathers_speaks_for_itself(index, told):
    for _ in range(2):
        with gathered() as tally:
            index.add([RUSSIAN])
        assert tally.letters.are_mostly_unread and tally.letters.n > 10
    with gathered() as tally:
        index.add([GERMAN])
    assert tally.letters.n > 10 and tally.letters.unread == 0
    assert told() == []
    index.add([RUSSIAN])
    assert len(told()) == 1
    with gathered() as tally:
        index.add([RUSSIAN])
    assert tally.letters.are_mostly_unread


def test_vectors_have_no_script(index, encoder, told):
    vectors = encoder.encode_documents([RUSSIAN])
    index.add_vectors(["a"], TokenVectors(vectors[0], np.array([0, len(vectors[0])])), [RUSSIAN])
    index.add([])
    assert told() == []


def test_the_model_that_reads_it_says_nothing(tmp_path, told):
    index = Index.create(tmp_path / "index", Encoder.load("multilingual", threads=1))
    index.add([RUSSIAN, GERMAN, "人人生而自由，在尊嚴和權利上一律平等。", "すべての人間は自由である。"])
    assert told() == []
    index.add(["ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ ᏚᏳᎧᏛ ᎨᏒᎢ."])
    [message] = told()
    assert 'model "multilingual"' in message and 'mode="bm25"' in message and "--model" not in message
