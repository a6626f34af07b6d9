"""Batch-invariant attention for translating on a CPU: sums in a fixed order, without BLAS.

A batched product of torch uses MKL, whose kernels depend on the shape of the whole batch. Here each
sum has its own fixed order, whatever else is in the batch: `embedding_bag` adds the rows of a table
one after another in the order of their indices, and `sum` over the last dimension adds the numbers
of one row.
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

_CACHED = 2**17  # fp32 numbers that fit into a core's cache: half a megabyte


class PackedAttention:
    """Computes the same contexts and weights as `attention`, which must not change afterwards.

    Additive attention expects doubled queries and keys; the caller doubles the weights of their
    products, which is exact in floating point.
    """

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        self._additive = isinstance(attention, AdditiveAttention)
        self._heads = 1
        if isinstance(attention, AdditiveAttention | MultiplicativeAttention):
            self._heads = attention.heads
        # See AdditiveAttention: v . tanh(x) equals 2v . sigmoid(2x) up to a constant, which softmax
        # cancels.
        self._energy = Tensor()
        if isinstance(attention, AdditiveAttention):
            self._energy = 2 * attention.energy.detach().flatten()

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        """The keys of attention without a key product, in the memory layout that `attend` needs."""
        return _by_number(self._attention.keys(values)).transpose(1, 2)

    def attend(
        self, projected: Float[Tensor, "batch queries key"], source: EncodedSource
    ) -> Attended:
        """The contexts and attention weights of projected queries."""
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
        # A few sentences at a time, so that intermediate results stay in the cache.
        few = max(1, _CACHED // (queries.shape[1] * keys.shape[1] * keys.shape[2]))
        energies = []
        for few_queries, few_keys in zip(queries.split(few), keys.split(few), strict=True):
            hidden = sigmoid_(few_queries.unsqueeze(2) + few_keys.unsqueeze(1)).mul_(self._energy)
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
    """The keys transposed, contiguous in memory; copied only if they are stored otherwise."""
    return keys.transpose(1, 2).contiguous()


def _weighted_sums(
    weights: Float[Tensor, "..."],
    table: Float[Tensor, "table_rows width"],
    rows: Int[Tensor, "sums rows_each"],
) -> Float[Tensor, "sums width"]:
    """For each sum, adds its rows of the table, each times its weight, in the order of `rows`."""
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
    """Rows of the table of values: for each query and head, all positions of its sentence."""
    table = torch.arange(batch * src_len * heads, dtype=torch.int32)
    by_sentence = table.view(batch, 1, src_len, heads).transpose(2, 3)
    return by_sentence.expand(-1, queries, -1, -1).reshape(-1, src_len)


@functools.lru_cache(maxsize=64)
def _numbers(batch: int, queries: int, heads: int, size: int) -> Int[Tensor, "sums head_size"]:
    """Rows of the table of keys: for each query and head, the head's dimensions."""
    table = torch.arange(batch * size, dtype=torch.int32)
    return table.view(batch, 1, size).expand(-1, queries, -1).reshape(-1, size // heads)
