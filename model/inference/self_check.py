"""Self-check: whether a network gives a sentence bit-identical results in any batch.

Products have checks of their own (row_counts.py). This one checks everything together, on this
machine and with this number of threads: it encodes random sentences and takes a few steps, with one
sentence alone and with the same sentence among longer and shorter ones, and compares bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from model.config import ModelConfig
from model.inference.output_layer import Narrowing
from model.inference.padding import SOURCE_BUCKET, padded_batch, padded_sentences
from model.inference.products import ProductPrecision
from model.network.batch import SourceBatch
from model.network.decoder import DecoderState
from model.text.tokenizer import EOS

_LENGTHS = (11, 4, 30)  # of the sentences; the first is compared
_BEAMS = (1, 5)
_NUM_STEPS = 2
_NUM_PIECES = 60  # of a narrowed output layer
_results: dict[tuple[object, ...], bool] = {}


@runtime_checkable
class CheckedStep(Protocol):
    """Results of one step of a network."""

    @property
    def logits(self) -> Tensor: ...

    @property
    def state(self) -> DecoderState: ...

    @property
    def attention_weights(self) -> Tensor: ...


@runtime_checkable
class CheckedNetwork(Protocol):
    """The part of PackedNetwork that is checked."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def precision(self) -> ProductPrecision: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, source: SourceBatch) -> DecoderState: ...

    def step(
        self, previous_ids: Tensor, state: DecoderState, narrowing: Narrowing | None = None
    ) -> CheckedStep: ...

    def narrowing(self, piece_ids: Tensor) -> Narrowing: ...


def is_batch_invariant(network: CheckedNetwork) -> bool:
    """True if all results of a sentence were equal; networks of one shape are checked once."""
    threads = torch.get_num_threads()
    key = (network.config.model_dump_json(), network.precision, str(network.device), threads)
    if key not in _results:
        with torch.inference_mode():
            _results[key] = all(_agree(network, beam) for beam in _BEAMS)
    return _results[key]


def _agree(network: CheckedNetwork, beam: int) -> bool:
    generator = torch.Generator().manual_seed(0)

    def random_ids(count: int, below: int) -> list[int]:
        return torch.randint(EOS + 1, below, (count,), generator=generator).tolist()

    sources = [random_ids(length, network.config.source_vocab_size) for length in _LENGTHS]
    vocab = network.config.target_vocab_size
    words = [random_ids(_NUM_STEPS, vocab) for _ in sources]
    pieces = [sorted(set(random_ids(min(_NUM_PIECES, vocab), vocab))) for _ in sources]
    alone = _numbers(network, sources[:1], words, pieces, beam)
    together = _numbers(network, sources, words, pieces, beam)
    return all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def _numbers(
    network: CheckedNetwork,
    sources: Sequence[Sequence[int]],
    words: Sequence[Sequence[int]],
    pieces: Sequence[Sequence[int]],
    beam: int,
) -> Iterator[Tensor]:
    """All results for the first sentence, computed together with the others."""
    src_len = len(sources[0]) + 1
    state = network.encode(padded_batch(sources, network.device))
    yield state.source.keys[0, :src_len]
    yield state.source.values[0, :src_len]
    yield from _own(state, 1)
    # Filled up with the first sentence, as a BeamBatch is.
    size = padded_sentences(len(sources), beam)
    order = torch.tensor(
        [*range(len(sources)), *[0] * (size - len(sources))], device=network.device
    )
    longest = -(-max(map(len, sources)) // SOURCE_BUCKET) * SOURCE_BUCKET
    state = state.select_sentences(order).select(order.repeat_interleave(beam))
    state = replace(state, source=state.source.resized(max(longest, state.source.mask.shape[1])))
    width = max(map(len, pieces))
    table = torch.tensor(
        [[EOS, *pieces[n], *[0] * (width - len(pieces[n]))] for n in order.tolist()],
        device=network.device,
    )
    narrowing = network.narrowing(table)
    for step in range(_NUM_STEPS):
        ids = torch.tensor([words[n][step] for n in order.tolist()], device=network.device)
        rows = ids.repeat_interleave(beam)
        narrow = network.step(rows, state, narrowing)
        yield narrow.logits[:beam, : len(pieces[0]) + 1]
        output = network.step(rows, state)
        yield output.logits[:beam]
        yield output.attention_weights[:beam, :src_len]
        state = output.state
        yield from _own(state, beam)


def _own(state: DecoderState, beam: int) -> Iterator[Tensor]:
    """The first sentence's part of the decoder state."""
    for states in (*state.hidden, *state.cell):
        yield states[:beam]
    if state.context is not None:
        yield state.context[:beam]
