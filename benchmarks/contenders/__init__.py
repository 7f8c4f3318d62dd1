"""Libraries that answer the same questions over the same token vectors, for `peers.py`: a table of them.

`base` says what a contender is; `ours`, `exhaustive` and `clustered` hold them; `processes` starts a `child`,
in whichever Python has the package, to build or measure one; `exact` is what their answers are held to.
"""

from __future__ import annotations

from contenders import clustered, exhaustive, ours
from contenders.base import Contender

CONTENDERS: dict[str, Contender] = {
    each.name: each for each in (*ours.CONTENDERS, *clustered.CONTENDERS, *exhaustive.CONTENDERS)
}
