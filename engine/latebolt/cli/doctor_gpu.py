"""The GPU's part of `latebolt doctor`: what is there, what will run on it, and where nothing will, why.

The provider is started in a process of its own (`gpu.probe`), and only where nothing is known to stop it.
"""

from __future__ import annotations

from typing import Any

from latebolt.errors import InvalidInput


def examine_gpu(device: str) -> dict[str, Any]:
    """Name -> value; `problems` are what keeps work off the GPU, each with the way out.

    Args:
        device: "cuda:1" and the like examines that GPU, anything else the first.
    """
    from latebolt.gpu import libraries, nvml
    from latebolt.gpu.finding import find
    from latebolt.gpu.probe import probe

    number, found = _number(device), find()
    faults = libraries.faults(found, number)
    section: dict[str, Any] = {"usable": False}
    if found.driver is not None:
        version = found.driver.version or "of unknown version"
        section["driver"] = f"{version}, runs CUDA up to {'.'.join(map(str, found.driver.cuda))}"
    card = nvml.gpu(number)
    if card is not None:
        free = f"{card.free / 1e9:.1f} of {card.total / 1e9:.1f} GB free"
        section["gpu"] = f"cuda:{number} {card.name}, {free}"
    if found.cuda:
        section["onnxruntime"] = f"{found.module} {found.version}, built for CUDA {found.cuda}"
        section |= _places(found)
    if not faults:
        outcome = probe(number)
        section["provider"] = outcome.provider or "started, and multiplies rightly"
        section["numba-cuda"] = outcome.numba or "compiles and runs kernels"
        section["usable"] = not outcome.provider
        if outcome.provider:
            faults = (libraries.Fault("provider", libraries.why_not(found, number, outcome.provider)),)
    section["problems"] = [fault.message for fault in faults]
    section["notes"] = list(libraries.notes(found))
    return section


def _number(device: str) -> int:
    from latebolt.devices import parse

    try:
        return parse(device)[0].number
    except InvalidInput:
        return 0  # the model's part says so


def _places(found: Any) -> dict[str, str]:
    """Where each library lies that the provider needs, or that it is nowhere; and cuDNN in any case."""
    from latebolt.gpu.libraries import stem_of

    names = dict.fromkeys(found.needed)
    names |= dict.fromkeys(each.name for each in found.libraries if stem_of(each.name) == "cudnn")
    section = {}
    for name in names:
        at = [each for each in found.libraries if each.name == name]
        section[name] = f"{at[0].folder} ({at[0].place})" if at else "not found"
    return section
