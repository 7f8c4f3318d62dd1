"""Why the hub did not give a model, in a few words."""

from __future__ import annotations

import errno
import re
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub import errors

from latebolt import Encoder
from latebolt.errors import ModelError, RuntimeUnavailable
from latebolt.formats import hub


def of_the_hub(kind, status=404):
    """An exception of huggingface_hub as its own requests raise it, whichever HTTP library it uses."""
    error = kind.__new__(kind)
    Exception.__init__(error, "404 Client Error.\nRequest id: 1")
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (of_the_hub(errors.RepositoryNotFoundError, 401), "has no such public model"),
        (of_the_hub(errors.RevisionNotFoundError), "has no such revision of it"),
        (of_the_hub(errors.GatedRepoError, 403), "gives it only to those who have accepted its terms"),
        (of_the_hub(errors.HfHubHTTPError, 503), "answered with status 503"),
        (errors.HFValidationError("no '..' in a name\nmore"), r"takes no such name \(no '..' in a name\)"),
        (errors.LocalEntryNotFoundError("An error happened. Please check."), "cannot be reached"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"could not be stored \(No space left on device\)",
        ),
    ],
)
def test_reasons(error, expected):
    assert isinstance(error, hub.faults())
    assert re.search(expected, hub.reason(error))


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch):
    def unreachable(*_, **__):
        raise errors.LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub.")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r'"org/name": no folder of that name here, and the hub cannot be'):
        Encoder.load("org/name")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub is switched off by HF_HUB_OFFLINE"):
        Encoder.load("org/name")


def test_without_the_library_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # an import of it then fails
    with pytest.raises(RuntimeUnavailable, match=r'^"org/name": .*pip install \'latebolt\[hub\]\''):
        Encoder.load("org/name")
