"""`Attention.attend` as translating uses it on a CPU: sums in a fixed order, none of them by BLAS.

A batched product of torch reaches MKL, whose kernels depend on the shape of the whole batch. Here a
sum runs over the rows of a table, one after another, in the one order in which they are stored
(`embedding_bag`: every number of the result has a sum of its own, whatever else is summed), or
over the numbers of one row by themselves (`sum` over the last dimension).
"""

import functools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from model.network.attention import (
    AdditiveAttention,
    Attended,
    Attention,
    EncodedSource,
    MultiplicativeAttention,
)
from model.network.pointwise import sigmoid_

_CACHED = 2**17  # numbers of a step that are kept in a core's cache: half a megabyte


class PackedAttention:
    """The same contexts and weights as `attention`, which must not be changed afterwards.

    Additive attention takes queries and keys doubled; the caller doubles the weights that make
    them, which changes no bit.
    """

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        self._additive = isinstance(attention, AdditiveAttention)
        self._heads = 1
        if isinstance(attention, AdditiveAttention | MultiplicativeAttention):
            self._heads = attention.heads
        # See AdditiveAttention: v . tanh(x) is 2v . sigmoid(2x), but for what softmax cancels.
        self._energy = Tensor()
        if isinstance(attention, AdditiveAttention):
            self._energy = 2 * attention.energy.detach().flatten()

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        """What queries are compared with, where no product makes it; laid out for `attend`."""
        return _by_number(self._attention.keys(values)).transpose(1, 2)

    def attend(
        self, projected: Float[Tensor, "batch queries key"], source: EncodedSource
    ) -> Attended:
        """Where projected queries look, and what they see there."""
        if self._additive:
            energies = self._additive_energies(projected, source.keys)
        elif isinstance(self._attention, MultiplicativeAttention):
            energies = self._multiplicative_energies(projected, source.keys)
        else:
            return self._attention.attend(projected, source)
        energies.masked_fill_(~source.mask[:, None, None, :], -math.inf)
        weights = torch.softmax(energies, dim=-1)  # (batch, queries, heads, src_len)
        batch, queries, heads, src_len = weights.shape
        table = source.values.reshape(batch * src_len * heads, -1)
        context = _weighted_sums(weights, table, _places(batch, queries, heads, src_len))
        mean = weights.squeeze(2) if heads == 1 else weights.mean(dim=2)
        return Attended(context.view(batch, queries, -1), mean)

    def _additive_energies(
        self, queries: Float[Tensor, "batch queries key"], keys: Float[Tensor, "batch src_len key"]
    ) -> Float[Tensor, "batch queries heads src_len"]:
        # A few sentences at a time: what lies between stays in the cache.
        few = max(1, _CACHED // (queries.shape[1] * keys.shape[1] * keys.shape[2]))
        energies = []
        for some, theirs in zip(queries.split(few), keys.split(few), strict=True):
            hidden = sigmoid_(some.unsqueeze(2) + theirs.unsqueeze(1)).mul_(self._energy)
            energies.append(hidden.unflatten(-1, (self._heads, -1)).sum(-1))
        joined = energies[0] if len(energies) == 1 else torch.cat(energies)
        return joined.transpose(2, 3)

    def _multiplicative_energies(
        self, queries: Float[Tensor, "batch queries key"], keys: Float[Tensor, "batch src_len key"]
    ) -> Float[Tensor, "batch queries heads src_len"]:
        batch, num_queries, size = queries.shape
        table = _by_number(keys).flatten(0, 1)
        numbers = _numbers(batch, num_queries, self._heads, size)
        energies = _weighted_sums(queries, table, numbers).div_(math.sqrt(size // self._heads))
        return energies.view(batch, num_queries, self._heads, -1)


def _by_number(keys: Float[Tensor, "batch src_len key"]) -> Float[Tensor, "batch key src_len"]:
    """The places of each number of the keys side by side; copied unless they are stored so."""
    return keys.transpose(1, 2).contiguous()


def _weighted_sums(
    weights: Float[Tensor, "..."],
    table: Float[Tensor, "table_rows width"],
    rows: Int[Tensor, "sums rows_each"],
) -> Float[Tensor, "sums width"]:
    """For each sum its rows of the table, each times its weight, added in this order."""
    sums: Tensor = functional.embedding_bag(
        rows.flatten(),
        table,
        torch.arange(0, rows.numel(), rows.shape[1], dtype=rows.dtype),
        mode="sum",
        per_sample_weights=weights.flatten(),
    )
    return sums


@functools.lru_cache(maxsize=64)
def _places(batch: int, queries: int, heads: int, src_len: int) -> Int[Tensor, "sums src_len"]:
    """Rows of the values' table: for each query and head, all places of its sentence."""
    table = torch.arange(batch * src_len * heads, dtype=torch.int32)
    by_sentence = table.view(batch, 1, src_len, heads).transpose(2, 3)
    return by_sentence.expand(-1, queries, -1, -1).reshape(-1, src_len)


@functools.lru_cache(maxsize=64)
def _numbers(batch: int, queries: int, heads: int, size: int) -> Int[Tensor, "sums head_size"]:
    """Rows of the keys' table: for each query and head, the numbers that are the head's."""
    table = torch.arange(batch * size, dtype=torch.int32)
    return table.view(batch, 1, size).expand(-1, queries, -1).reshape(-1, size // heads)
