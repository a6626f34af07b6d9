"""Row counts that agree are found by trying, with products that depend on them on purpose."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.inference.row_counts import RowCounts, multiply_in

SIZE = 6
WEIGHT = torch.arange(1.0, 1 + 3 * SIZE).view(3, SIZE) / 7


def exactly(inputs: Tensor) -> Tensor:
    """Each row by itself."""
    return (inputs.unsqueeze(1) * WEIGHT).sum(-1)


def product(error: Callable[[int], float]) -> Callable[[Tensor], Tensor]:
    """A product whose last bits depend on the number of rows."""
    return lambda inputs: exactly(inputs) + error(len(inputs))


def positional(inputs: Tensor) -> Tensor:
    """A product whose last bits depend on where a row stands."""
    return exactly(inputs) + torch.arange(len(inputs))[:, None] * 1e-3


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (lambda rows: 0.0, {1: (1,), 5: (5,), 40: (40,), 330: (330,)}),
        # Kernels of their own for few rows, as int8 has them on some processors.
        (lambda rows: 0.1 if rows < 6 else 0.0, {1: (8,), 5: (8,), 8: (8,), 41: (48,)}),
        # Another kernel for many rows, as bf16 has it.
        (lambda rows: 0.1 if rows > 32 else 0.0, {5: (5,), 32: (32,), 45: (32, 13)}),
        # No two row counts agree: one and the same count for all.
        (lambda rows: rows * 1e-3, {1: (32,), 64: (32, 32), 70: (32, 32, 32)}),
    ],
)
def test_calls_of_row_counts_that_agree(
    error: Callable[[int], float], calls: dict[int, tuple[int, ...]]
) -> None:
    multiply = product(error)
    counts = RowCounts(multiply, SIZE)
    assert counts.exact
    assert {rows: counts.calls(rows, multiply) for rows in calls} == calls
    inputs = torch.rand(130, SIZE)
    together = multiply_in(counts.calls(130, multiply), inputs, multiply)
    for rows in (1, 2, 7, 33, 65):
        alone = multiply_in(counts.calls(rows, multiply), inputs[50 : 50 + rows], multiply)
        assert torch.equal(alone, together[50 : 50 + rows])


def test_a_new_row_count_is_tested_on_first_use() -> None:
    multiply = product(lambda rows: 0.1 if rows == 200 else 0.0)
    counts = RowCounts(multiply, SIZE)
    assert counts.calls(199, multiply) == (199,)
    assert counts.calls(200, multiply) == (64, 64, 64, 8)


def test_if_positions_differ_rows_are_multiplied_one_by_one() -> None:
    counts = RowCounts(positional, SIZE)
    assert counts.exact
    assert counts.calls(3, positional) == (1, 1, 1)


def test_products_that_agree_only_in_too_small_calls_are_not_exact() -> None:
    counts = RowCounts(positional, SIZE, smallest_block=8)
    assert not counts.exact
    assert counts.calls(3, positional) == (3,)


def test_padding_leaves_no_trace() -> None:
    inputs = torch.rand(5, SIZE)
    for calls in ((5,), (8,), (4, 4), (2, 2, 2)):
        assert torch.equal(multiply_in(calls, inputs, exactly), exactly(inputs))
