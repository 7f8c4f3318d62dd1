"""Fixtures of object stores. The S3 server is moto's, in a thread of this process; no network is used."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A bucket of a server that speaks S3, as a URI; the server is named in AWS's own variables."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def s3(s3_server: str) -> str:
    """A place of its own in the bucket."""
    return f"{s3_server}/place-{next(_numbers)}/notes"


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """A folder as a URI."""
    return (tmp_path / "published here" / "notes").as_uri()


@pytest.fixture(params=["disk", "memory", "s3"])
def uri(request: pytest.FixtureRequest) -> str:
    """A place in each kind of store."""
    if request.param == "memory":
        pytest.importorskip("fsspec")
        return f"memory://place-{next(_numbers)}/notes"
    return str(request.getfixturevalue(request.param))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, of this test alone."""
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
