"""Requests to a Qdrant server that fail: which are tried again and when, and how the rest is told; and the
client of the command line. `adapters.qdrant` and `adapters.qdrant_async` both go through here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any, Final

from latebolt.errors import InvalidInput, LateboltError, RuntimeUnavailable

try:
    import grpc
    import tenacity
    from qdrant_client import QdrantClient
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    raise RuntimeUnavailable(
        "qdrant-client is not installed. Run \"pip install 'latebolt[qdrant]'\"."
    ) from error

logger = logging.getLogger(__name__)

# Of HTTP: a server that is starting, busy or behind a proxy that cannot reach it now.
_TRANSIENT_STATUS: Final = (429, 500, 502, 503, 504)
_TRANSIENT_CODES: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_BACKOFF: Final = tenacity.wait_random_exponential(multiplier=0.25, max=10)


def patiently(place: str, patience: float) -> dict[str, Any]:
    """Arguments of tenacity's `Retrying` and `AsyncRetrying`: again while what failed may pass.

    Args:
        place: what messages call the collection.
        patience: seconds that it is tried for.
    """
    return {
        "retry": tenacity.retry_if_exception(is_transient),
        "wait": _pause,
        "stop": tenacity.stop_before_delay(patience),
        "before_sleep": functools.partial(_tell, place),
        "reraise": True,
    }


def connect(
    url: str | None, path: str | None, api_key: str | None = None, grpc: bool = False, timeout: int = 60
) -> QdrantClient:
    """A client for the command line, of a server or of local storage.

    Args:
        timeout: seconds a request may take; the client's own default is 5.
    """
    if path is not None:
        return QdrantClient(path=path)
    # The first request tells of a server that is not there; a version check before it would only warn.
    return QdrantClient(
        url=url, api_key=api_key, prefer_grpc=grpc, timeout=timeout, check_compatibility=False
    )


@contextlib.contextmanager
def readable_errors(where: str) -> Iterator[None]:
    """What goes wrong in the client, said as the command line says things.

    Raises:
        LateboltError: the server cannot be reached or refuses; the storage is in use.
        InvalidInput: a name or URL that the client does not take.
    """
    place = f"Qdrant at {where}"
    try:
        yield
    except LateboltError:
        raise
    except UnexpectedResponse as error:
        way_out = "Look at the server's log."
        if error.status_code in (401, 403):
            way_out = "Give its key with --api-key or in QDRANT_API_KEY."
        raise LateboltError(f"{place}: refused with {_reason(error)}. {way_out}") from error
    except (ResponseHandlingException, ResourceExhaustedResponse, grpc.RpcError) as error:
        raise LateboltError(
            f"{place}: cannot be reached or does not answer ({_reason(error)}). Start the server, or look "
            "at the URL."
        ) from error
    except RuntimeError as error:  # of local storage that another client has open
        raise LateboltError(f"{place}: {error}") from error
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnexpectedResponse):
        try:
            said = error.structured()["status"]["error"]
        except (ValueError, LookupError, TypeError):
            said = error.reason_phrase
        return f"{error.status_code} ({said})"
    if isinstance(error, grpc.Call):
        return str(error.details() or error.code())
    return str(error) or type(error).__name__


def is_transient(error: BaseException) -> bool:
    """Whether a request that failed so may succeed later without a change."""
    if isinstance(error, ResponseHandlingException):
        # Its source is httpx's: refused, reset, timed out. A response that cannot be read is a ValueError.
        return not isinstance(error.source, ValueError)
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _TRANSIENT_STATUS
    if isinstance(error, grpc.RpcError):
        return isinstance(error, grpc.Call) and error.code() in _TRANSIENT_CODES
    return isinstance(error, ResourceExhaustedResponse)


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    return float(_BACKOFF(state))


def _tell(place: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning("%s: %s. Trying again in %.1f s.", place, error, state.upcoming_sleep)
