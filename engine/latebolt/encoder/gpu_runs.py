"""How texts share runs of a GPU: the settings, and what they mean for a text's vectors. On the CPU, where
every text runs alone, they change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from latebolt.checks import whole_number
from latebolt.errors import InvalidInput

# padded: texts of about one length, filled up to the longest, with a mask.
# equal: texts of one length, without a mask; others as padded ones.
# ragged: texts of any lengths, whose padding the graph takes out for the encoder's layers.
FORMS: Final = ("padded", "equal", "ragged")


@dataclass(frozen=True)
class GpuRuns:
    """How texts share runs of a GPU.

    Args:
        form: one of `FORMS`; "equal" and "ragged" have graphs of their own, which an export writes with fp16.
        deterministic: every text in a run of its own, so that its vectors keep their bits whatever company it
            has. In company a product of other size may be summed in another order.
        captured: single queries by a CUDA graph that was recorded once for their length.
        tokens: padding included, of a run at most; None chooses by the device's free memory.
    Raises:
        InvalidInput: an unknown form, or tokens below 1.
    """

    form: str = "padded"
    deterministic: bool = False
    captured: bool = False
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InvalidInput(f"form should be one of {', '.join(FORMS)}, got {self.form!r}.")
        if self.tokens is not None:
            whole_number(self.tokens, "tokens")
