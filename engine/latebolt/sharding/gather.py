"""Asks several shards at once and waits for their answers, but no longer than a deadline.

What is not there in time is given up, not waited for. Which failures are the caller's own (a filter that
cannot be read) and which are a shard's is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from latebolt.errors import InvalidInput, LateboltError, ModelMismatch, ShardUnavailable
from latebolt.sharding.protocol import Method, Pending, Shard

_OWN_FAULTS = (InvalidInput, ModelMismatch)


class Failure(NamedTuple):
    """Why a shard gave no answer: in words, and the error; None where time was up."""

    why: str
    error: BaseException | None


class Gathered(NamedTuple):
    """Answers and failures by the number of the shard."""

    answers: dict[int, Any]
    failures: dict[int, Failure]


def gather(
    shards: Sequence[Shard],
    method: Method,
    arguments: Mapping[int, tuple[Any, ...]],
    deadline: float | None = None,
) -> Gathered:
    """Ask some shards.

    Args:
        arguments: of the call, by the number of the shard; others are not asked.
        deadline: of `time.monotonic`, None for none.
    Raises:
        InvalidInput, ModelMismatch: a shard refuses what the caller gave. The others are given up.
    """
    pending: dict[int, Pending[Any]] = {}
    found = Gathered({}, {})
    try:
        for number, given in arguments.items():
            try:
                pending[number] = shards[number].call(method, *given)
            except Exception as error:  # noqa: BLE001 - whatever a transport raises, the others may answer
                found.failures[number] = _failure(error)
        for number in list(pending):
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                found.answers[number] = pending[number].result(left)
            except (TimeoutError, CancelledError) as error:
                pending[number].cancel()
                late = isinstance(error, TimeoutError)
                found.failures[number] = Failure("no answer in time" if late else "gave up", None)
            except Exception as error:  # noqa: BLE001 - as above
                found.failures[number] = _failure(error)
            del pending[number]
    finally:
        for each in pending.values():
            each.cancel()
    return found


def _failure(error: Exception) -> Failure:
    if isinstance(error, _OWN_FAULTS):
        raise error
    why = str(error) if isinstance(error, LateboltError) else f"{type(error).__name__}: {error}"
    return Failure(why.strip(), error)


def check_all(failures: Mapping[int, Failure], what: str) -> None:
    """Raise ShardUnavailable where a shard gave no answer.

    Args:
        what: the set, for the message.
    """
    if failures:
        missing = {number: failure.why for number, failure in sorted(failures.items())}
        causes = [failure.error for failure in failures.values() if failure.error is not None]
        named = "; ".join(f"shard {number}: {why}" for number, why in missing.items())
        raise ShardUnavailable(
            f"{what}: {len(missing)} of its shards gave no answer ({named}). Ask again, or take the answers "
            f"of the others with partial=True.",
            missing,
        ) from (causes[0] if causes else None)
