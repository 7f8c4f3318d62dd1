"""Every error that latebolt raises on purpose is one line, whatever it quotes, and survives being pickled."""

from __future__ import annotations

import inspect
import pickle

import pytest

from latebolt import errors

HOSTILE = "a token\nline 2\r\n\u2028line 3\x85\x1e\v\f"
MADE = {
    errors.IndexCorrupt: lambda text: errors.IndexCorrupt(text, text, text, text, text),
    errors.IndexNewer: lambda text: errors.IndexNewer(text, text, text, text),
    errors.IndexInaccessible: lambda text: errors.IndexInaccessible(text, 13, True),
    errors.ShardUnavailable: lambda text: errors.ShardUnavailable(text, {0: text}),
}
ALL = [
    each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.LateboltError)
]


@pytest.mark.parametrize("error", ALL, ids=lambda each: each.__name__)
def test_a_message_is_one_line(error):
    made = MADE.get(error, error)(HOSTILE)
    assert len(str(made).splitlines()) == 1
    assert r"a token\nline 2\r\n" in str(made)
    assert str(pickle.loads(pickle.dumps(made))) == str(made)
