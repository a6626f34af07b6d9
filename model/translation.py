"""Translations of texts, put together from the hypotheses of their segments; imports no torch.

A PendingText is one text being translated: its segments, and their hypotheses so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from model.decoding.search_config import Hypothesis, SearchConfig, length_penalty
from model.text.segmenter import JoinedText, Span, SplitText, join
from model.text.tokenizer import Tokenizer, TokenizerPair

# Stands for the hypothesis of a segment without tokens, which the network does not get.
_UNCHANGED = Hypothesis((), 0.0, 0.0, (), attention=None, finished=True)


# Warnings about a translation; service/text/quality_warnings.py gives them.
Sign = Literal["copied", "loop", "cut", "too_short", "too_long", "numbers", "unsure"]


@dataclass(frozen=True)
class Alternative:
    """Another translation of the same text."""

    text: str
    score: float
    log_prob: float


@dataclass(frozen=True)
class SegmentTranslation:
    """One segment of a text, as the network translated it.

    A segment without tokens stays unchanged: no pieces, and a score of 0.
    """

    source: str
    text: str
    source_span: Span  # place in the text; target_span: place in the translation
    target_span: Span
    score: float
    source_pieces: tuple[str, ...]  # without EOS
    target_pieces: tuple[str, ...]  # without EOS
    token_log_probs: tuple[float, ...]  # per target piece, then EOS's unless the target was cut
    # One row per entry of token_log_probs, one column per source piece and a last one for EOS.
    alignment: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class Translation:
    """The translation of one text; several segments are scored as one long target."""

    text: str
    score: float
    log_prob: float
    alternatives: tuple[Alternative, ...]  # n_best - 1 others, best first; fewer where fewer exist
    segments: tuple[SegmentTranslation, ...]  # in order, with only white space between them
    source_tokens: int  # pieces of all segments, EOS not counted
    target_tokens: int
    truncated: bool  # a segment was cut at the length limit
    warnings: tuple[Sign, ...] = ()  # added by the service


@dataclass(frozen=True)
class ForcedScore:
    """Log-probabilities that the network gives to a target."""

    log_prob: float
    score: float  # log_prob after the checkpoint's length penalty
    token_log_probs: tuple[float, ...]  # per piece, then EOS's
    pieces: tuple[str, ...]  # without EOS


@dataclass
class PendingText:
    """One text being translated."""

    ticket: int
    source: SplitText
    source_ids: list[list[int]]  # by segment
    search: SearchConfig
    waiting_for: dict[int, int] = field(default_factory=dict)  # request id -> segment
    hypotheses: dict[int, tuple[Hypothesis, ...]] = field(default_factory=dict)  # by segment

    @property
    def num_ranks(self) -> int:
        """Number of different translations that the segments' hypotheses allow; at least one."""
        return max((len(hypotheses) for hypotheses in self.hypotheses.values()), default=1)

    def ranked(self, rank: int) -> dict[int, Hypothesis]:
        """Returns the hypothesis of this rank of every segment, or its last one, by segment."""
        return {
            index: hypotheses[min(rank, len(hypotheses) - 1)]
            for index, hypotheses in sorted(self.hypotheses.items())
        }

    def scores(self, rank: int) -> tuple[float, float]:
        """Returns log_prob and score of the whole text, made of the hypotheses of this rank."""
        chosen = self.ranked(rank).values()
        log_prob = sum((hypothesis.log_prob for hypothesis in chosen), 0.0)
        length = sum(len(hypothesis.token_log_probs) for hypothesis in chosen)
        return log_prob, log_prob / length_penalty(length, self.search.length_penalty)


def translation_of(
    pending: PendingText, tokenizers: TokenizerPair, target_language: str
) -> Translation:
    """Returns the translation of a text whose segments are all translated."""

    def joined(rank: int) -> JoinedText:
        return _joined(pending, pending.ranked(rank), tokenizers.target, target_language)

    def alternative(rank: int) -> Alternative:
        log_prob, score = pending.scores(rank)
        return Alternative(joined(rank).text, score, log_prob)

    first = joined(0)  # once, because it takes most of the time here
    log_prob, score = pending.scores(0)
    best = [hypotheses[0] for hypotheses in pending.hypotheses.values()]
    return Translation(
        text=first.text,
        score=score,
        log_prob=log_prob,
        alternatives=tuple(alternative(rank) for rank in range(1, pending.num_ranks)),
        segments=_segments(pending, first, tokenizers),
        source_tokens=sum(len(source_ids) for source_ids in pending.source_ids),
        target_tokens=sum(len(hypothesis.token_ids) for hypothesis in best),
        truncated=not all(hypothesis.finished for hypothesis in best),
    )


def _joined(
    pending: PendingText,
    chosen: Mapping[int, Hypothesis],
    tokenizer: Tokenizer,
    target_language: str,
) -> JoinedText:
    """Joins the text with the decoded hypotheses (by segment) in place of its segments."""
    texts = [segment.text for segment in pending.source.segments]
    for index, hypothesis in chosen.items():
        texts[index] = tokenizer.decode(hypothesis.token_ids)
    return join(pending.source, texts, target_language=target_language)


def _segments(
    pending: PendingText, joined: JoinedText, tokenizers: TokenizerPair
) -> tuple[SegmentTranslation, ...]:
    best = pending.ranked(0)
    segments = []
    for index, (segment, source_ids, source_span, target_span) in enumerate(
        zip(
            pending.source.segments,
            pending.source_ids,
            pending.source.spans,
            joined.spans,
            strict=True,
        )
    ):
        hypothesis = best.get(index, _UNCHANGED)
        segments.append(
            SegmentTranslation(
                source=segment.text,
                text=joined.text[target_span.start : target_span.end],
                source_span=source_span,
                target_span=target_span,
                score=hypothesis.score,
                source_pieces=tuple(tokenizers.source.pieces(source_ids)),
                target_pieces=tuple(tokenizers.target.pieces(hypothesis.token_ids)),
                token_log_probs=hypothesis.token_log_probs,
                alignment=hypothesis.attention,
            )
        )
    return tuple(segments)
