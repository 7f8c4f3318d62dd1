"""Progress bars on stderr: how much is done, how fast, how long it will take.

One small interface over tqdm, silent when not asked for, so that no other module needs to know it.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType


class progress_bar:  # noqa: N801 - used as a context manager, like `open`
    """`with progress_bar(total, "encode", "text", show) as bar: bar.step(1, tokens)`. Thread-safe."""

    def __init__(self, total: int | None, what: str, unit: str, show: bool) -> None:
        self._bar = None
        self._tokens = 0
        self._start = time.perf_counter()
        self._lock = threading.Lock()
        if show:
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=what, unit=unit, dynamic_ncols=True, mininterval=0.2)

    def __enter__(self) -> progress_bar:
        return self

    def step(self, items: int, tokens: int = 0) -> None:
        """Count `items` as done, with so many tokens in them."""
        if self._bar is None:
            return
        with self._lock:
            self._tokens += tokens
            if self._tokens:
                rate = self._tokens / max(time.perf_counter() - self._start, 1e-9)
                self._bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
            self._bar.update(items)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
