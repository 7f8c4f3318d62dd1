"""The path below which a proxy shows the server: it is taken off where the proxy hands it on.

What follows sees the paths of the server's own, whatever is before them outside. The page's links are
relative, so they hold at every path that ends with a slash.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Scope

from latebolt.serve.problems import Problem


def below(scope: Scope, root: str, is_kept: bool) -> Scope:
    """A request as the server's own paths have it.

    Args:
        root: such as "/search", or empty.
        is_kept: the proxy hands it on. What comes without it is answered too: health checks ask directly.
    """
    rest = _rest(scope["path"], root)
    return scope if rest is None or not is_kept else {**scope, "path": rest}


def check(path: str, root: str, is_kept: bool) -> None:
    """Tell whoever set up the proxy that it hands on what it should take off.

    A path of both kinds would be two names of one thing, of which a rule of the proxy may know one alone.

    Raises:
        Problem: 404.
    """
    if not is_kept and _rest(path, root) is not None:
        raise Problem(
            404,
            f"the root path {root} reaches the server, and should be taken off by the proxy. Let it do so, "
            "or start the server with --root-path-kept.",
            "root_path",
        )


def to_folder(root: str, query: bytes) -> Response:
    """From /search to /search/, by a relative address: the proxy's name and path are its own affair."""
    behind = f"?{query.decode('latin-1')}" if query else ""
    return Response(status_code=307, headers={"Location": f"{root.rpartition('/')[2]}/{behind}"})


def _rest(path: str, root: str) -> str | None:
    """What stands behind the root path; None where it is not there."""
    if not root or not (path == root or path.startswith(root + "/")):
        return None
    return path[len(root) :]
