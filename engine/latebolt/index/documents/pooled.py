"""The token pooling that an index keeps in its settings, for all texts that are ever added to it.

Vectors that are added as such stay as they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from latebolt.checks import whole_number
from latebolt.encoder.pooling import Pooling

FACTOR_SETTING: Final = "pool_factor"
MOST_SETTING: Final = "max_vectors"


def pooling_settings(pooling: Pooling) -> dict[str, int]:
    """What an index keeps of it; nothing of a setting that changes no vector, as in indexes of before."""
    factor = {FACTOR_SETTING: pooling.factor} if pooling.factor > 1 else {}
    return factor if pooling.most is None else {**factor, MOST_SETTING: pooling.most}


def kept_pooling(settings: Mapping[str, Any]) -> Pooling:
    """What `pooling_settings` gave.

    Raises:
        InvalidInput: somebody has written something else there.
    """
    most = settings.get(MOST_SETTING)
    return Pooling(
        whole_number(settings.get(FACTOR_SETTING, 1), FACTOR_SETTING),
        None if most is None else whole_number(most, MOST_SETTING),
    )
