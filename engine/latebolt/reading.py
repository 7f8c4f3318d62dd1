"""Opens a file of texts for reading, plain or .gz, and says in one line why it cannot be read."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from latebolt.errors import InvalidInput, LateboltError


@contextlib.contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """A file open for reading, unzipped.

    Raises:
        InvalidInput: there is no such file, or it is a folder or a broken .gz.
        LateboltError: the system does not let it be read.
    """
    try:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InvalidInput(f"{path}: there is no such file.") from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{path}: is a folder, not a file.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path}: is not a sound gzip file ({error}).") from error
    except OSError as error:
        raise LateboltError(f"{path}: cannot be read ({error.strerror}).") from error
