"""Asks several shards at once and waits for their answers, but no longer than a deadline.

What is not there in time is given up, not waited for; changes are waited for to their ends, so that who asked
knows what was committed. Which failures are the caller's own (a filter that cannot be read) and which are a
shard's is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final, NamedTuple, NoReturn

from latebolt.errors import (
    IndexLocked,
    IndexUnusable,
    InvalidInput,
    LateboltError,
    ModelMismatch,
    ShardUnavailable,
)
from latebolt.sharding.protocol import Method, Pending, Shard

_OWN_FAULTS: Final = (InvalidInput, ModelMismatch)
_KEPT: Final = 0.5


class Failure(NamedTuple):
    """Why a shard gave no answer: in words, and the error; None where time was up."""

    why: str
    error: BaseException | None


class Gathered(NamedTuple):
    """Answers and failures by the number of the shard."""

    answers: dict[int, Any]
    failures: dict[int, Failure]


class Round:
    """What one call asks, in several rounds: until when, and which shards are out of it.

    Args:
        seconds: for all of it; None for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.failures: dict[int, Failure] = {}

    def until(self, keep: bool) -> float | None:
        """Until when answers are waited for, of `time.monotonic`.

        Args:
            keep: half of the time that is left, for what is asked after this. Else a shard that hangs would
                leave the others none to answer in.
        """
        if self.deadline is None or not keep:
            return self.deadline
        now = time.monotonic()
        return now + max(self.deadline - now, 0.0) * _KEPT

    @property
    def is_over(self) -> bool:
        """Whether nothing that is asked now could be answered in time."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def missing(self) -> dict[int, str]:
        """Shards that gave no answer, and why."""
        return {number: failure.why for number, failure in sorted(self.failures.items())}


class Shards:
    """The shards of a set, as they are asked. Threads may share it.

    Args:
        shards: in the order of their numbers.
        name: of the set, for messages.
        deadline: seconds that a question may take; None for ever. Changes have none.
        partial: whether answers of some shards will do.
    """

    def __init__(self, shards: Sequence[Shard], name: str, deadline: float | None, partial: bool) -> None:
        self._shards, self.name = list(shards), name
        self._deadline, self._partial, self._closed = deadline, partial, False

    def asked(self, deadline: float | None, partial: bool) -> Shards:
        """The same shards, asked in another way."""
        return Shards(self._shards, self.name, deadline, partial)

    def __len__(self) -> int:
        return len(self._shards)

    def check_open(self) -> None:
        """Raise IndexUnusable if it was closed."""
        if self._closed:
            raise IndexUnusable(f"{self.name}: this index was closed. Open it again.")

    def begin(self) -> Round:
        """Begin to ask."""
        self.check_open()
        return Round(self._deadline)

    def everyone(self, *arguments: Any) -> dict[int, tuple[Any, ...]]:
        """The same arguments for each shard."""
        return dict.fromkeys(range(len(self._shards)), arguments)

    def ask(
        self,
        round_: Round,
        method: Method,
        asked: Mapping[int, tuple[Any, ...]],
        partial: bool | None = None,
        last: bool = True,
    ) -> dict[int, Any]:
        """Answers by the number of the shard; one that failed earlier in the round is not asked again.

        Args:
            asked: arguments by the number of the shard; others are not asked.
            partial: whether answers of some will do; as the set says by default.
            last: whether nothing is asked after this. If something is, and answers of some will do, a shard
                that is late is given up while the others still have time for it.
        Raises:
            InvalidInput, ModelMismatch: a shard refuses what the caller gave. The others are given up.
            ShardUnavailable: one fails, and that is not allowed; or all do.
        """
        asked = {number: each for number, each in asked.items() if number not in round_.failures}
        allowed = self._partial if partial is None else partial
        found = gather(self._shards, method, asked, round_.until(keep=allowed and not last))
        for failure in found.failures.values():
            if isinstance(failure.error, _OWN_FAULTS):
                raise failure.error
        round_.failures |= found.failures
        if round_.failures and not (allowed and len(round_.failures) < len(self._shards)):
            check_all(round_.failures, self.name)
        return found.answers

    def change(
        self, method: Method, asked: Mapping[int, tuple[Any, ...]], ids: Sequence[str] | None = None
    ) -> dict[int, Any]:
        """Answers of shards that each commit a part of a change.

        Args:
            asked: see `ask`.
            ids: of an addition's documents, where they were given numbers, for the error.
        Raises:
            IndexLocked: other processes are writing to shards, which is all that was in the way.
            LateboltError: what a shard said, where no shard has committed.
            ShardUnavailable: some shards have committed, which it names, and others have not.
        """
        self.check_open()
        found = gather(self._shards, method, asked)
        check_changed(found, self.name, ids)
        return found.answers

    def close(self) -> None:
        """Close all of them."""
        self._closed = True
        for shard in self._shards:
            shard.close()


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
    why = str(error) if isinstance(error, LateboltError) else f"{type(error).__name__}: {error}"
    return Failure(why.strip(), error)


def check_all(failures: Mapping[int, Failure], what: str) -> NoReturn:
    """Raise ShardUnavailable for shards that gave no answer.

    Args:
        what: the set, for the message.
    """
    missing = {number: failure.why for number, failure in sorted(failures.items())}
    causes = [failure.error for failure in failures.values() if failure.error is not None]
    raise ShardUnavailable(
        f"{what}: {len(missing)} of its shards gave no answer ({_named(missing)}). Ask again, or take the "
        f"answers of the others with partial=True.",
        missing,
    ) from (causes[0] if causes else None)


def check_changed(found: Gathered, what: str, ids: Sequence[str] | None = None) -> None:
    """Raise for shards that have not committed; see `Shards.change`."""
    if not found.failures:
        return
    errors = [failure.error for failure in found.failures.values()]
    missing = {number: failure.why for number, failure in sorted(found.failures.items())}
    committed = sorted(found.answers)
    done = (
        f"shards {', '.join(map(str, committed))} have committed" if committed else "no shard has committed"
    )
    again = "Repeat the same call, which is safe" + (
        ": documents have numbers for ids now, give those (ids of this error)." if ids else "."
    )
    message = f"{what}: {_named(missing)}; {done}. {again}"
    if all(isinstance(error, IndexLocked) for error in errors) and not ids:
        raise IndexLocked(message) from errors[0]
    if not committed and isinstance(errors[0], LateboltError):
        raise errors[0]
    raise ShardUnavailable(message, missing, committed, ids) from errors[0]


def _named(missing: Mapping[int, str]) -> str:
    return "; ".join(f"shard {number}: {why}" for number, why in missing.items())
