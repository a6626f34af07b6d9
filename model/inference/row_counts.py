"""Finds the row counts with which a matrix product is batch-invariant.

A library chooses its kernel by the number of rows, and two kernels may add in a different order or
round at different steps. So the result of a row can differ in the last bit between a product of one
row and a product of forty. This module tests row counts: random rows are multiplied in small and
large calls, at different positions, and the results are compared bit for bit. Translating uses only
row counts with equal results: a product is padded to such a count, or split into such calls.

A product of one fixed row count always runs the same kernel. Splitting into such calls is therefore
exact even where no two row counts agree.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Multiply = Callable[[Tensor], Tensor]  # (rows, inputs) -> (rows, outputs)

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_TESTED = (1, 2, 3, 4, 5, 8, 16, 32, 40, 64)
_ENOUGH = 32  # rows of a call; with smaller calls, reading the weights takes most of the time
_LARGEST_BLOCK = 64  # most rows of a call when a product has to be split
_NUM_DIFFERENT = 16  # different random rows of a test; larger tests repeat them
_SHIFT = 5  # coprime with the multiples, so that a repeated row gets into every position


class RowCounts:
    """Tests which row counts agree, for products of one shape and one number of threads.

    Safe with several threads: two threads that test the same count get the same result.
    """

    def __init__(self, multiply: Multiply, num_inputs: int, *, smallest_block: int = 1) -> None:
        """Tests some row counts; the others are tested on first use.

        `smallest_block`: smallest size of the calls into which a product may be split, because
        smaller calls are too slow. If only smaller calls agree, products are not split and `exact`
        is False.
        """
        generator = torch.Generator().manual_seed(0)
        self._rows = 2 * torch.rand(_NUM_DIFFERENT, num_inputs, generator=generator) - 1
        self._known: dict[int, bool] = {}  # row count -> does it agree with calls of `multiple`?
        self._calls: dict[int, tuple[int, ...]] = {}
        self.multiple = 1  # rows that every call is padded to
        self.block = 0  # rows of a call when a product has to be split
        for multiple in _MULTIPLES:
            known = self._test(multiply, multiple)
            agreeing = [rows for rows in known if known[rows] and rows <= _LARGEST_BLOCK]
            block = max(agreeing, default=0)
            if block > self.block:
                self.multiple, self.block, self._known = multiple, block, known
            if block >= _ENOUGH:
                break
        self.exact = self.block >= smallest_block

    def calls(self, rows: int, multiply: Multiply) -> tuple[int, ...]:
        """The row counts of the calls for a product of `rows` rows; the last call may be padded.

        A new row count is tested with `multiply`.
        """
        calls = self._calls.get(rows)
        if calls is None:
            calls = self._calls[rows] = self._find_calls(rows, multiply)
        return calls

    def _find_calls(self, rows: int, multiply: Multiply) -> tuple[int, ...]:
        if not self.exact:
            return (rows,)
        padded = self._padded(rows)
        if self._agrees(padded, multiply):
            return (padded,)
        full, rest = divmod(rows, self.block)
        calls = (self.block,) * full
        if rest:
            padded = self._padded(rest)
            calls += (padded if self._agrees(padded, multiply) else self.block,)
        return calls

    def _padded(self, rows: int) -> int:
        return -(-rows // self.multiple) * self.multiple

    def _agrees(self, rows: int, multiply: Multiply) -> bool:
        if rows not in self._known:
            with torch.inference_mode():
                # One call of a count that is known to agree is faster than many of `multiple` rows.
                count = min((n for n in self._known if self._known[n] and n >= 16), default=0)
                expected = self._expected(multiply, count or self.multiple)
                self._known[rows] = self._same(multiply, rows, expected)
        return self._known[rows]

    def _test(self, multiply: Multiply, multiple: int) -> dict[int, bool]:
        """Tests multiples of `multiple` in ascending order, up to the first that disagrees."""
        known: dict[int, bool] = {}
        with torch.inference_mode():
            expected = self._expected(multiply, multiple)
            for rows in sorted({multiple, *_TESTED}):
                if rows % multiple == 0:
                    known[rows] = self._same(multiply, rows, expected)
                    if not known[rows]:
                        break
        return known

    def _expected(self, multiply: Multiply, count: int) -> Tensor:
        """The results of the different random rows, in calls of `count` rows."""
        if count >= _NUM_DIFFERENT:
            return multiply(self._repeated(count, 0))[:_NUM_DIFFERENT]
        return torch.cat([multiply(part) for part in self._rows.split(count)])

    def _same(self, multiply: Multiply, rows: int, expected: Tensor) -> bool:
        index = (torch.arange(rows) + _SHIFT) % _NUM_DIFFERENT
        return torch.equal(multiply(self._repeated(rows, _SHIFT)), expected[index])

    def _repeated(self, rows: int, shift: int) -> Tensor:
        return self._rows[(torch.arange(rows) + shift) % _NUM_DIFFERENT]


def multiply_in(calls: Sequence[int], inputs: Tensor, multiply: Multiply) -> Tensor:
    """The product of all rows, computed in calls of these row counts; removes padding."""
    if len(calls) == 1:
        rows = inputs.shape[0]
        if calls[0] == rows:
            return multiply(inputs)
        return multiply(functional.pad(inputs, (0, 0, 0, calls[0] - rows)))[:rows]
    outputs = []
    start = 0
    for count in calls:
        part = inputs[start : start + count]
        outputs.append(multiply_in((count,), part, multiply))
        start += count
    return torch.cat(outputs)
