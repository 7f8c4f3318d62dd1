"""How likely a hit answers its query, a number in [0, 1] made of its score by what was measured of its model.

A score is a sum over the query's token vectors: it grows with the query, and what is much for one model is
little for another. A calibration was fitted on questions whose answers are known
(`latebolt_export.calibrate`) and lies in the model's folder, in a file of its own that older folders lack. It
knows the score and the number of the query's vectors, nothing of the documents around the hit, so it never
changes the order of hits.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from latebolt.errors import ModelError

FILE_NAME: Final = "confidence.json"
FORMAT_VERSION: Final = 1


class Confidence(NamedTuple):
    """Of one hit.

    value: in [0, 1], the share of such hits that answered their question, among the questions of the fit and
    where as many hits answered as did not. weak: it is below the model's `weak_below`.
    """

    value: float
    weak: bool


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one width of a model: logit(confidence) = offset + slope * score / n_query.

    score / n_query is the mean cosine of the query's vectors. The number of these, the length of the text and
    how alike they are among themselves were tried beside it and told nothing about collections that a fit had
    not seen.
    """

    dim: int
    fingerprint: str  # of the vectors, see `ModelFolder.fingerprint`
    offset: float
    slope: float  # above 0: the better score is the more likely answer
    weak_below: float  # a confidence, in [0, 1]

    def of(self, score: float, n_query: int) -> Confidence:
        """The confidence of a score.

        Args:
            score: MaxSim, the sum of cosines over the query's vectors.
            n_query: how many those are.
        """
        logit = self.offset + self.slope * score / max(n_query, 1)
        value = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0  # beyond, exp has no float
        return Confidence(value, value < self.weak_below)


class Calibrations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model's confidence.json holds.

    fitted: on what, in words and numbers; for people.
    """

    calibrations: tuple[Calibration, ...]
    fitted: dict[str, Any] = {}
    format: str = "latebolt-confidence"
    format_version: int = FORMAT_VERSION

    def at(self, fingerprint: str) -> Calibration | None:
        """That of the vectors with this fingerprint; None where nobody made one."""
        return next((each for each in self.calibrations if each.fingerprint == fingerprint), None)

    def problems(self) -> list[str]:
        """What contradicts itself, as `field: should be ..., got ...` lines; empty when sound."""
        found = []
        if self.format != "latebolt-confidence":
            found.append(f'format: should be "latebolt-confidence", got "{self.format}"')
        if self.format_version != FORMAT_VERSION:
            found.append(f"format_version: should be {FORMAT_VERSION}, got {self.format_version}")
        for each in self.calibrations:
            if each.slope <= 0:
                found.append(f"slope: should be above 0, got {each.slope} at dim {each.dim}")
            if not 0 <= each.weak_below <= 1:
                found.append(f"weak_below: should be in 0..1, got {each.weak_below} at dim {each.dim}")
        return found


_DECODER: Final = msgspec.json.Decoder(Calibrations)  # under the import's lock, see `contract`


def read(folder: Path) -> Calibrations | None:
    """What a model folder's file says; None where it has none.

    Raises:
        ModelError: it is unreadable or contradicts itself.
    """
    path = folder / FILE_NAME
    try:
        found = _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path}: {error}. {_WAY_OUT}") from error
    if problems := found.problems():
        raise ModelError(f"{path}: {'; '.join(problems)}. {_WAY_OUT}")
    return found


_WAY_OUT: Final = 'Make it again with "python -m latebolt_export.calibrate", or remove it.'


def content(calibrations: Calibrations) -> bytes:
    """The file's bytes, which people can read too."""
    return msgspec.json.format(msgspec.json.encode(calibrations), indent=2) + b"\n"
