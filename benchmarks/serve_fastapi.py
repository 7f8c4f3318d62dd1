"""`latebolt serve` where FastAPI answers by itself, without our router, for `serve.py --only roads`."""

from __future__ import annotations

import sys

from starlette.types import ASGIApp

from latebolt.cli import main
from latebolt.serve.http import app


def fastapi_alone(_routes: object, _reader: object, described: ASGIApp) -> ASGIApp:
    """FastAPI with the same routes."""
    return described


if __name__ == "__main__":
    app.Router = fastapi_alone  # type: ignore[assignment,misc]
    sys.exit(main())
