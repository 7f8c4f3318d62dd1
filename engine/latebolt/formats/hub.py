"""What can go wrong between us and the model hub, and how to say it in a few words.

Only looks at exceptions; whoever asks the hub catches them, with the library that `library` gives.
"""

from __future__ import annotations

import sys
from typing import Any

from latebolt.errors import RuntimeUnavailable

_MOST = 120  # characters of a library's own message that are passed on


def library(hub_id: str) -> Any:
    """The module huggingface_hub, which only hub ids need.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise RuntimeUnavailable(
            f'"{hub_id}": no folder of that name is here, and models of the hub need huggingface_hub, which '
            "is not installed. Run \"pip install 'latebolt[hub]'\", or give the folder of the model."
        ) from error
    return huggingface_hub


def faults() -> tuple[type[Exception], ...]:
    """Every exception that huggingface_hub lets through when the hub does not give what was asked for."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    found: list[type[Exception]] = [HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError]
    if (httpx := sys.modules.get("httpx")) is not None:
        found.append(httpx.HTTPError)  # of huggingface_hub 1.x, and no OSError
    return (*found, ValueError)  # a name or revision that its own checks refuse


def reason(error: Exception) -> str:
    """Why the hub did not give it, to follow "the hub ..."."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    if constants.HF_HUB_OFFLINE:
        return "is switched off by HF_HUB_OFFLINE"
    if isinstance(error, GatedRepoError):
        return "gives it only to those who have accepted its terms: log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "has no such revision of it"
    if isinstance(error, RepositoryNotFoundError):
        return "has no such public model"
    if isinstance(error, HfHubHTTPError) and status:
        return f"answered with status {status}"
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return f"takes no such name ({_line(error)})"
    if isinstance(error, OSError) and error.errno:
        return f"gave it, but it could not be stored ({error.strerror})"
    return "cannot be reached"


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_MOST]
