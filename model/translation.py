"""What a text becomes: its segments' hypotheses, put together as Translations.

A Job is one text on its way through the engine: what it was split into, and what was found so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.decoding.beam_search import Hypothesis, SearchConfig, length_penalty
from model.quality import Sign
from model.text.segmenter import JoinedText, Span, SplitText, join
from model.text.tokenizer import Tokenizer, TokenizerPair

# Of a segment that the network has not seen.
_PASSED = Hypothesis((), 0.0, 0.0, (), attention=None, finished=True)


@dataclass(frozen=True)
class Alternative:
    """Another translation of the same text."""

    text: str
    score: float
    log_prob: float


@dataclass(frozen=True)
class SegmentTranslation:
    """One segment of a text, as the network translated it.

    What the tokenizer finds nothing in passes as it is: no pieces, and a score of 0.
    """

    source: str
    text: str
    source_span: Span  # where it stands in the text, and in its translation
    target_span: Span
    score: float
    source_pieces: tuple[str, ...]  # without EOS
    target_pieces: tuple[str, ...]  # without EOS
    token_log_probs: tuple[float, ...]  # per target piece, then EOS's unless the target was cut
    # One row per entry of token_log_probs, one column per source piece and a last one for EOS.
    alignment: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class Translation:
    """The translation of one text; scores of several segments are those of one long target."""

    text: str
    score: float
    log_prob: float
    alternatives: tuple[Alternative, ...]  # n_best - 1 others, best first; fewer where fewer exist
    segments: tuple[SegmentTranslation, ...]  # in order; between them is white space only
    source_tokens: int  # pieces of all segments, EOS not counted
    target_tokens: int
    truncated: bool  # a segment reached the length limit before its end
    warnings: tuple[Sign, ...] = ()  # added by the service, which looks for them


@dataclass
class Job:
    """One text on its way through the engine."""

    ticket: int
    source: SplitText
    source_ids: list[list[int]]  # by segment
    search: SearchConfig
    waiting_for: dict[int, int] = field(default_factory=dict)  # request id -> segment
    hypotheses: dict[int, tuple[Hypothesis, ...]] = field(default_factory=dict)  # by segment

    @property
    def num_ranks(self) -> int:
        """Different translations that can be made of the segments' hypotheses; at least one."""
        return max((len(hypotheses) for hypotheses in self.hypotheses.values()), default=1)

    def ranked(self, rank: int) -> dict[int, Hypothesis]:
        """Every segment's hypothesis of this rank, or its last."""
        return {
            index: hypotheses[min(rank, len(hypotheses) - 1)]
            for index, hypotheses in sorted(self.hypotheses.items())
        }

    def scores(self, rank: int) -> tuple[float, float]:
        """Log-probability and score of the whole text from those."""
        chosen = self.ranked(rank).values()
        log_prob = sum((hypothesis.log_prob for hypothesis in chosen), 0.0)
        length = sum(len(hypothesis.token_log_probs) for hypothesis in chosen)
        return log_prob, log_prob / length_penalty(length, self.search.length_penalty)


def translation_of(job: Job, tokenizers: TokenizerPair, target_language: str) -> Translation:
    """Of a job all of whose segments have come back."""

    def joined(rank: int) -> JoinedText:
        return _joined(job, job.ranked(rank), tokenizers.target, target_language)

    def alternative(rank: int) -> Alternative:
        log_prob, score = job.scores(rank)
        return Alternative(joined(rank).text, score, log_prob)

    first = joined(0)  # once: it costs most of all here
    log_prob, score = job.scores(0)
    best = [hypotheses[0] for hypotheses in job.hypotheses.values()]
    return Translation(
        text=first.text,
        score=score,
        log_prob=log_prob,
        alternatives=tuple(alternative(rank) for rank in range(1, job.num_ranks)),
        segments=_segments(job, first, tokenizers),
        source_tokens=sum(len(source_ids) for source_ids in job.source_ids),
        target_tokens=sum(len(hypothesis.token_ids) for hypothesis in best),
        truncated=not all(hypothesis.finished for hypothesis in best),
    )


def _joined(
    job: Job, chosen: Mapping[int, Hypothesis], tokenizer: Tokenizer, target_language: str
) -> JoinedText:
    """The text with these hypotheses, by segment, for its translated segments."""
    texts = [segment.text for segment in job.source.segments]
    for index, hypothesis in chosen.items():
        texts[index] = tokenizer.decode(hypothesis.token_ids)
    return join(job.source, texts, target_language=target_language)


def _segments(
    job: Job, joined: JoinedText, tokenizers: TokenizerPair
) -> tuple[SegmentTranslation, ...]:
    best = job.ranked(0)
    segments = []
    for index, (segment, source_ids, source_span, target_span) in enumerate(
        zip(job.source.segments, job.source_ids, job.source.spans, joined.spans, strict=True)
    ):
        hypothesis = best.get(index, _PASSED)
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
