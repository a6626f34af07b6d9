"""Scores the network on the dev split: its loss, and BLEU and chrF of greedy translations."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from model.checkpoint import Checkpoint
from model.decoding.search_config import SearchConfig
from model.translator import Translator
from training.config import DevMetric
from training.data.readers import Pair
from training.evaluation.metrics import bleu, chrf, translate_all
from training.loop.batching import PairBatch, collate
from training.loop.loss import cross_entropy

_BATCH_SENTENCES = 64


@dataclass(frozen=True)
class DevScores:
    """Scores on the dev split; bleu and chrf of greedy translations, from 0 to 100."""

    nll: float  # nats per target token, EOS counted
    bleu: float
    chrf: float
    seconds: float
    example: str  # one source and its translation

    def score(self, metric: DevMetric) -> float:
        """Returns the score that training maximises; for the loss, its negative."""
        match metric:
            case "bleu":
                return self.bleu
            case "chrf":
                return self.chrf
            case "loss":
                return -self.nll

    def numbers(self) -> dict[str, float]:
        """Returns the scores to log, by name."""
        return {name: value for name, value in asdict(self).items() if name != "example"}


class Validator:
    """Scores a network on the dev split at every call."""

    def __init__(
        self, checkpoint: Checkpoint, pairs: Sequence[Pair], *, max_sentences: int
    ) -> None:
        """Tokenizes and batches dev once; `checkpoint` holds the network under training."""
        self._checkpoint = checkpoint
        self._pairs = list(pairs[:max_sentences])
        tokenizers = checkpoint.tokenizers
        encoded = sorted(
            (tokenizers.source.encode(pair.source), tokenizers.target.encode(pair.target))
            for pair in pairs
        )
        encoded.sort(key=lambda ids: len(ids[1]))
        batches = [
            encoded[start : start + _BATCH_SENTENCES]
            for start in range(0, len(encoded), _BATCH_SENTENCES)
        ]
        self._batches = [collate(*zip(*batch, strict=True)) for batch in batches]
        self._calls = 0

    def __call__(self) -> DevScores:
        """Returns the loss over all of dev and the scores over its first `max_sentences` pairs."""
        start = time.monotonic()
        self._checkpoint.network.eval()
        nll = self._loss()
        if not math.isfinite(nll):  # the weights exploded, so translating makes no sense
            return DevScores(nll, bleu=0.0, chrf=0.0, seconds=time.monotonic() - start, example="")
        translator = Translator(self._checkpoint)
        sources = [pair.source for pair in self._pairs]
        references = [pair.target for pair in self._pairs]
        hypotheses = translate_all(translator, sources, SearchConfig(beam_size=1))
        shown = self._calls % len(sources)
        self._calls += 1
        return DevScores(
            nll=nll,
            bleu=bleu(hypotheses, references, self._checkpoint.config.target_language),
            chrf=chrf(hypotheses, references),
            seconds=time.monotonic() - start,
            example=f"{sources[shown]}  ->  {hypotheses[shown]}",
        )

    @torch.no_grad()
    def _loss(self) -> float:
        network = self._checkpoint.network
        device = next(network.parameters()).device

        def total(batch: PairBatch) -> float:
            batch = batch.to(device)
            real = batch.target_output.flatten() != 0
            readouts = network.readouts(batch.source, batch.target_input).flatten(0, 1)[real]
            loss = cross_entropy(readouts, network.output, batch.target_output.flatten()[real], 0.0)
            return loss.negative_log_prob.item()

        tokens = sum(batch.num_target_tokens for batch in self._batches)
        return sum(total(batch) for batch in self._batches) / tokens
