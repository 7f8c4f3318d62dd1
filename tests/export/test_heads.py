"""Which projection each width uses."""

from __future__ import annotations

import pytest
import torch

from latebolt.errors import ExportError
from latebolt_export.source.heads import Dense, Projection, check, choose


def projection(dim: int, hidden: int = 32, **dense) -> Projection:
    return Projection((Dense(torch.zeros(dim, hidden), **dense),), source=f"file{dim}")


def test_without_dims_every_head_keeps_its_width_widest_first():
    assert [output.dim for output in choose([projection(8), projection(16)], None)] == [16, 8]


def test_a_width_of_its_own_is_preferred_to_rows_of_a_wider_one():
    outputs = choose([projection(16), projection(8)], [16, 8, 4])
    assert [(output.dim, output.projection) for output in outputs] == [(16, 0), (8, 1), (4, 1)]
    assert outputs[1].source == "file8"
    assert outputs[2].source == "rows 0:4 of the 8 head (file8)"


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([32], "no head 32 wide.*widest is 16.*--head"),
        ([6], "multiples of 4"),
        ([0], "multiples"),
        ([], "none"),
    ],
)
def test_impossible_widths_are_refused(dims, message):
    with pytest.raises(ExportError, match=message):
        choose([projection(16)], dims)


def test_a_head_of_another_encoder_is_refused():
    with pytest.raises(ExportError, match=r"file16: head weight should be \[dim, 64\], got \[16, 32\]"):
        check(projection(16), 64)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ExportError, match='activation "swish2" is not one of identity'):
        check(projection(16, activation="swish2"), 32)
