"""Attention of decoder states over source states; stateless.

Keys are projected once per source (`keys`). The queries of one source (the words of a target in
training, the beams in a search) share them, so keys and values are never copied per beam.
Projecting queries and attending with them are two steps, because translating projects in another
precision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.network.pointwise import sigmoid_

_CACHED = 2**17  # numbers of a step that fit into a core's cache: half a megabyte


@dataclass(frozen=True)
class EncodedSource:
    """Encoded source sentences; one row each, shared by all beams."""

    keys: Float[Tensor, "batch src_len key"]  # what queries are compared with
    values: Float[Tensor, "batch src_len enc"]  # what contexts are made of
    mask: Bool[Tensor, "batch src_len"]
    summary: Float[Tensor, "batch enc"]  # the whole sentence in one vector

    def select(self, sentences: Int[Tensor, " new_batch"]) -> "EncodedSource":
        """These sentences in this order; repeats are allowed."""
        return EncodedSource(
            keys=_in_its_layout(self.keys, lambda keys: keys.index_select(0, sentences)),
            values=self.values.index_select(0, sentences),
            mask=self.mask.index_select(0, sentences),
            summary=self.summary.index_select(0, sentences),
        )

    def resized(self, src_len: int) -> "EncodedSource":
        """Cut or padded to `src_len` places, which must hold all real tokens."""
        missing = src_len - self.mask.shape[1]  # negative: pad cuts
        by_number = self.keys.transpose(1, 2)
        if by_number.is_contiguous():
            keys = functional.pad(by_number, (0, missing)).transpose(1, 2)
        else:
            keys = functional.pad(self.keys, (0, 0, 0, missing))
        return replace(
            self,
            keys=keys,
            values=functional.pad(self.values, (0, 0, 0, missing)),
            mask=functional.pad(self.mask, (0, missing)),
        )


def _in_its_layout(keys: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Keys changed along the batch; packed_attention.py stores those of some kinds transposed."""
    by_number = keys.transpose(1, 2)
    return change(by_number).transpose(1, 2) if by_number.is_contiguous() else change(keys)


@dataclass(frozen=True)
class Attended:
    """Result of attention: one context and one distribution over the source for every query."""

    context: Float[Tensor, "batch queries enc"]
    weights: Float[Tensor, "batch queries src_len"]  # mean over heads; sums to 1, 0 on padding


class Attention(nn.Module):
    """Base of the kinds of attention: makes keys once per source, then attends with queries."""

    query: nn.Module  # projects queries

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        """Returns the vectors that queries are compared with."""
        raise NotImplementedError  # each kind has its own

    def attend(
        self, projected: Float[Tensor, "batch queries key"], source: EncodedSource
    ) -> Attended:
        """Returns weights and contexts of projected queries."""
        raise NotImplementedError  # each kind has its own

    def forward(
        self, queries: Float[Tensor, "batch queries hidden"], source: EncodedSource
    ) -> Attended:
        return self.attend(self.query(queries), source)


class AdditiveAttention(Attention):
    """v . tanh(W q + U k + b), per head (Bahdanau et al., 2015).

    Computed as 2v . sigmoid(2(W q + U k + b)), which is faster (pointwise.py). The two differ by a
    sum over v that is the same at every source place, so the softmax does not change.
    """

    query: nn.Linear

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.query = nn.Linear(config.decoder_hidden, config.attention_size, bias=False)
        self.key = nn.Linear(config.encoder_size, config.attention_size)
        head_size = config.attention_size // self.heads
        self.energy = nn.Parameter(torch.empty(self.heads, head_size))
        nn.init.uniform_(self.energy, -1 / math.sqrt(head_size), 1 / math.sqrt(head_size))

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        projected: Tensor = self.key(values)
        return projected

    def attend(
        self, projected: Float[Tensor, "batch queries key"], source: EncodedSource
    ) -> Attended:
        queries, keys = 2 * projected, 2 * source.keys
        # (batch, queries, src_len, key) x (key, heads), each head with its own part of the key
        weight = 2 * torch.block_diag(*self.energy).T
        if torch.is_grad_enabled():
            hidden = torch.sigmoid(queries.unsqueeze(2) + keys.unsqueeze(1))
            energies = torch.matmul(hidden, weight)
        else:
            # On a CPU a few sentences at a time, so that intermediate results stay in the cache.
            size = queries.shape[1] * keys.shape[1] * keys.shape[2]
            few = max(1, _CACHED // size) if queries.device.type == "cpu" else len(queries)
            energies = torch.cat(
                [
                    torch.matmul(sigmoid_(few_queries.unsqueeze(2) + few_keys.unsqueeze(1)), weight)
                    for few_queries, few_keys in zip(
                        queries.split(few), keys.split(few), strict=True
                    )
                ]
            )
        return _attend(energies.permute(0, 3, 1, 2), source)


class MultiplicativeAttention(Attention):
    """q . k / sqrt(size) per head: `dot`, or `general` with q projected first (Luong et al., 2015).

    The scale keeps the softmax from saturating in wide states (Vaswani et al., 2017).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.query = (
            nn.Linear(config.decoder_hidden, config.encoder_size, bias=False)
            if config.attention == "general"
            else nn.Identity()
        )

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        return values

    def attend(
        self, projected: Float[Tensor, "batch queries key"], source: EncodedSource
    ) -> Attended:
        queries = projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys = source.keys.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1)
        energies = torch.matmul(queries, keys) / math.sqrt(queries.shape[-1])
        return _attend(energies, source)


class NoAttention(Attention):
    """No attention: the sentence summary is the context of every word (Cho et al., 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Identity()

    def keys(
        self, values: Float[Tensor, "batch src_len enc"]
    ) -> Float[Tensor, "batch src_len key"]:
        return values[..., :0]

    def attend(
        self, projected: Float[Tensor, "batch queries key"], source: EncodedSource
    ) -> Attended:
        context = source.summary.unsqueeze(1).expand(-1, projected.shape[1], -1)
        uniform = source.mask / source.mask.sum(dim=1, keepdim=True)
        return Attended(context, uniform.unsqueeze(1).expand(-1, projected.shape[1], -1))


def build_attention(config: ModelConfig) -> Attention:
    """Returns the attention that `config` asks for."""
    if config.attention == "none":
        return NoAttention()
    if config.attention == "additive":
        return AdditiveAttention(config)
    return MultiplicativeAttention(config)


def _attend(
    energies: Float[Tensor, "batch heads queries src_len"], source: EncodedSource
) -> Attended:
    energies = energies.masked_fill(~source.mask[:, None, None, :], -math.inf)
    weights = torch.softmax(energies, dim=-1, dtype=torch.float32).to(source.values.dtype)
    heads = weights.shape[1]
    values = source.values.unflatten(-1, (heads, -1)).transpose(1, 2)  # (batch, heads, src_len, ..)
    context = torch.matmul(weights, values).transpose(1, 2).flatten(2)
    return Attended(context, weights.mean(dim=1))
