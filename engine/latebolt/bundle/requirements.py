"""Which wheels of those that pip has chosen a target needs, and which are missing.

pip chooses wheels by the target's tags but judges markers (`; python_version < "3.12"`) by the Python that it
runs on. So what each wheel asks for is followed again here, by the target's own markers. Decides only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What a package requires and latebolt never has it use: of tokenizers, only `from_pretrained` imports the
# hub's client, which brings ten others. Who asks for latebolt's extra `hub` gets it all the same.
_UNUSED = {"tokenizers": frozenset({"huggingface-hub"})}
# What a device never needs, and what would double the size of everything else.
_NEVER = frozenset({"torch", "transformers", "optimum", "optimum-onnx", "latebolt-export"})


class Wheel(NamedTuple):
    """A wheel of an index or a folder, by its metadata.

    Args:
        name: canonical.
        requires: lines of Requires-Dist.
    """

    name: str
    version: str
    licence: str
    requires: tuple[str, ...]
    url: str
    sha256: str


def wheel_of(metadata: Mapping[str, Any], url: str, sha256: str) -> Wheel:
    """A wheel by its metadata as JSON (packaging.python.org, "Core metadata specifications")."""
    return Wheel(
        canonicalize_name(str(metadata["name"])),
        str(metadata["version"]),
        licence_of(metadata),
        tuple(map(str, metadata.get("requires_dist") or ())),
        url,
        sha256,
    )


def licence_of(metadata: Mapping[str, Any]) -> str:
    """A licence in a few words: the expression, the classifier, or the first line of a text; "" for none."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [str(each) for each in metadata.get("classifier") or ()]
    named = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    text = str(metadata.get("license") or "").strip().splitlines()
    first = text[0].strip() if text else ""
    return first if 0 < len(first) <= 60 else ", ".join(named) or first[:60]


def needed(
    roots: Iterable[str], wheels: Mapping[str, Wheel], markers: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """What a target needs of the wheels, and requirements that none of them fulfils.

    Args:
        roots: what is asked for, such as "latebolt[cpu]".
        wheels: by canonical name.
        markers: of the target.
    Returns:
        Canonical names, sorted; requirements without their markers, sorted.
    """
    seen: set[tuple[str, str]] = set()
    missing: set[str] = set()
    todo = [Requirement(root) for root in roots]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        wheel = wheels.get(name)
        if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
            requirement.marker = None
            missing.add(str(requirement))
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for each in map(Requirement, wheel.requires):
                if canonicalize_name(each.name) in _UNUSED.get(name, ()):
                    continue
                if each.marker is None or each.marker.evaluate({**markers, "extra": extra}):
                    todo.append(each)
    return sorted({name for name, _ in seen}), sorted(missing)


def unwanted(names: Iterable[str]) -> list[str]:
    """What must not be in a bundle, of these canonical names."""
    return sorted(name for name in names if name in _NEVER or name.startswith(("nvidia-", "triton")))
