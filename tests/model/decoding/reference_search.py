"""Slow obvious versions: a network that is a table, beam search over lists, exhaustive search."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import ModelConfig
from model.decoding.search_config import SearchConfig
from model.inference.output_layer import Narrowing
from model.inference.packed_network import PackedStep
from model.network.attention import EncodedSource
from model.network.batch import SourceBatch
from model.network.decoder import DecoderState
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import BOS, EOS

NUM_CODES = 997


class TableNetwork(Seq2Seq):
    """A network whose logits are looked up by a hash of the source and all pieces so far."""

    def __init__(self, vocab_size: int, *, seed: int = 0, end_bias: float = 0.0) -> None:
        super().__init__(
            ModelConfig(
                source_vocab_size=vocab_size,
                target_vocab_size=vocab_size,
                embedding_size=1,
                encoder_hidden=1,
                decoder_hidden=1,
                attention_size=1,
            )
        )
        generator = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(NUM_CODES, vocab_size, generator=generator)
        self.table[:, EOS] += end_bias

    def encode(self, source: SourceBatch) -> DecoderState:
        codes = [
            code_of_source(row[:length])
            for row, length in zip(source.token_ids.tolist(), source.lengths.tolist(), strict=True)
        ]
        hidden = torch.tensor(codes, dtype=torch.float32)[:, None]
        encoded = EncodedSource(
            keys=torch.zeros(*source.token_ids.shape, 1),
            values=torch.zeros(*source.token_ids.shape, 1),
            mask=source.mask,
            summary=hidden,
        )
        return DecoderState(hidden=(hidden,), cell=(), context=None, source=encoded)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def narrowing(self, piece_ids: Tensor) -> Narrowing:
        raise AssertionError("a table has no shortlist")

    def step(
        self, previous_ids: Tensor, state: DecoderState, narrowing: Narrowing | None = None
    ) -> PackedStep:
        codes = (state.hidden[0][:, 0].long() * 31 + previous_ids * 7 + 1) % NUM_CODES
        beam = len(previous_ids) // len(state.source.mask)
        weights = state.source.mask.float().repeat_interleave(beam, dim=0)
        return PackedStep(
            logits=self.table[codes],
            state=DecoderState((codes.float()[:, None],), (), None, state.source),
            attention_weights=weights / weights.sum(dim=1, keepdim=True),
        )

    def log_probs(self, source_ids: Sequence[int], pieces: Sequence[int]) -> list[float]:
        """Of every next piece after these."""
        code = code_of_source([*source_ids, EOS])
        for piece in [BOS, *pieces]:
            code = (code * 31 + piece * 7 + 1) % NUM_CODES
        return self.table[code].log_softmax(-1).tolist()


def code_of_source(source_ids: Sequence[int]) -> int:
    return sum((place + 1) * piece for place, piece in enumerate(source_ids)) % NUM_CODES


@dataclass(frozen=True)
class Candidate:
    """A hypothesis of the slow searches."""

    pieces: tuple[int, ...]  # without EOS
    log_prob: float
    finished: bool

    def score(self, alpha: float) -> float:
        length = len(self.pieces) + self.finished
        return self.log_prob / float(((5 + length) / 6) ** alpha)


def slow_beam_search(
    network: TableNetwork, source_ids: Sequence[int], config: SearchConfig
) -> list[Candidate]:
    """Searches one sentence by the rules of beam_search.py, sorting all candidates of a step."""
    src_len = len(source_ids) + 1
    live = [Candidate((), 0.0, False)]
    ended: list[Candidate] = []

    def score(candidate: Candidate) -> float:
        return candidate.score(config.length_penalty)

    for step in range(1, config.max_length(src_len) + 1):
        candidates = []
        for parent in live:
            for piece, log_prob in enumerate(network.log_probs(source_ids, parent.pieces)):
                total = parent.log_prob + log_prob
                if piece == EOS and step >= config.min_length(src_len):
                    candidates.append(Candidate(parent.pieces, total, True))
                elif piece > EOS:
                    candidates.append(Candidate((*parent.pieces, piece), total, False))
        candidates.sort(key=lambda candidate: -candidate.log_prob)
        ended += [c for c in candidates[: config.beam_size] if c.finished]
        ended.sort(key=lambda candidate: -score(candidate))
        live = [c for c in candidates if not c.finished][: config.beam_size]
        if len(ended) >= config.beam_size:
            break
        hope = live[0].log_prob / ((5 + config.max_length(src_len)) / 6) ** config.length_penalty
        if len(ended) >= config.n_best and hope <= score(ended[config.n_best - 1]):
            break
    return (ended + live)[: config.n_best]


def every_translation(
    network: TableNetwork, source_ids: Sequence[int], vocab_size: int, max_length: int
) -> list[Candidate]:
    """Returns all sequences that end within `max_length` pieces, EOS included."""
    found = []
    for length in range(max_length):
        for pieces in itertools.product(range(EOS + 1, vocab_size), repeat=length):
            steps = [
                network.log_probs(source_ids, pieces[:place])[piece]
                for place, piece in enumerate([*pieces, EOS])
            ]
            found.append(Candidate(pieces, math.fsum(steps), True))
    return found
