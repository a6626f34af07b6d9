"""Row counts with which a matrix product gives a row the same result in any batch.

A library chooses its kernel by the number of rows, and two kernels may add in different orders or
round at different places. So the same row can differ in the last bit between a product of one row
and one of forty. Here the row counts of a product are tried: random rows are multiplied in calls of
few rows and of many, at different places, and the results are compared bit for bit. Afterwards only
row counts are used that were found equal: a product is padded to such a count, or split.

A product of one fixed row count always runs the same kernel. Splitting into such calls is therefore
exact even where no two row counts agree.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Multiply = Callable[[Tensor], Tensor]  # (rows, inputs) -> (rows, outputs)

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_TRIED = (1, 2, 3, 4, 5, 8, 16, 32, 40, 64)
_ENOUGH = 32  # rows of a call for which the weights are read seldom enough
_LARGEST_BLOCK = 64  # rows of a call where a product has to be split
_NUM_DIFFERENT = 16  # rows that differ; more rows repeat them
_SHIFT = 5  # no divisor of a multiple: a repeated row moves through all places


class RowCounts:
    """Which row counts agree, for products of one shape and one number of threads.

    Thread-safe in effect: two threads that try the same count find the same.
    """

    def __init__(self, multiply: Multiply, num_inputs: int, *, smallest_block: int = 1) -> None:
        """Tries some row counts; others are tried when they are first asked for.

        `smallest_block`: splitting products into calls of fewer rows would be too slow to be of
        use; if that is all that is left, the products stay whole and `exact` is False.
        """
        generator = torch.Generator().manual_seed(0)
        self._rows = 2 * torch.rand(_NUM_DIFFERENT, num_inputs, generator=generator) - 1
        self._known: dict[int, bool] = {}  # row count: agrees with calls of `multiple` rows
        self._calls: dict[int, tuple[int, ...]] = {}
        self.multiple = 1  # rows that every call is padded to
        self.block = 0  # rows of a call when a product has to be split
        for multiple in _MULTIPLES:
            known = self._try(multiply, multiple)
            agreeing = [rows for rows in known if known[rows] and rows <= _LARGEST_BLOCK]
            block = max(agreeing, default=0)
            if block > self.block:
                self.multiple, self.block, self._known = multiple, block, known
            if block >= _ENOUGH:
                break
        self.exact = self.block >= smallest_block

    def calls(self, rows: int, multiply: Multiply) -> tuple[int, ...]:
        """Row counts of the calls that together take `rows` rows; the last may be padded.

        `multiply` is tried out when a row count is new.
        """
        found = self._calls.get(rows)
        if found is None:
            found = self._calls[rows] = self._find_calls(rows, multiply)
        return found

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
                # One call of a count that is known to agree, not many of `multiple` rows.
                count = min((n for n in self._known if self._known[n] and n >= 16), default=0)
                expected = self._expected(multiply, count or self.multiple)
                self._known[rows] = self._same(multiply, rows, expected)
        return self._known[rows]

    def _try(self, multiply: Multiply, multiple: int) -> dict[int, bool]:
        """Multiples of `multiple`, the smallest first, up to the first that does not agree."""
        known: dict[int, bool] = {}
        with torch.inference_mode():
            expected = self._expected(multiply, multiple)
            for rows in sorted({multiple, *_TRIED}):
                if rows % multiple == 0:
                    known[rows] = self._same(multiply, rows, expected)
                    if not known[rows]:
                        break
        return known

    def _expected(self, multiply: Multiply, count: int) -> Tensor:
        """The results of the different rows, in calls of `count` rows."""
        if count >= _NUM_DIFFERENT:
            return multiply(self._repeated(count, 0))[:_NUM_DIFFERENT]
        return torch.cat([multiply(part) for part in self._rows.split(count)])

    def _same(self, multiply: Multiply, rows: int, expected: Tensor) -> bool:
        index = (torch.arange(rows) + _SHIFT) % _NUM_DIFFERENT
        return torch.equal(multiply(self._repeated(rows, _SHIFT)), expected[index])

    def _repeated(self, rows: int, shift: int) -> Tensor:
        return self._rows[(torch.arange(rows) + shift) % _NUM_DIFFERENT]


def multiply_in(calls: Sequence[int], inputs: Tensor, multiply: Multiply) -> Tensor:
    """The product of all rows, in calls of these row counts; padding is cut off again."""
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
