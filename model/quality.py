"""Quality estimation without a reference: the confidence of words.

A word's confidence is the product of its pieces' probabilities, which the search has computed
already (service/text/words.py gives the same numbers with positions). Only the smallest one is
needed here, so pieces suffice and no text is normalised: some microseconds per sentence.
training/release/calibration.py measures the bound below which a translation is called unsure.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from model.text.languages import UNSPACED_CHARACTER

_SPACE = "\u2581"  # SentencePiece's sign for the space before a word
_BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")


@runtime_checkable
class ScoredSegment(Protocol):
    """The part of a SegmentTranslation that confidence is computed from."""

    @property
    def target_pieces(self) -> Sequence[str]: ...

    @property
    def token_log_probs(self) -> Sequence[float]: ...


def least_word_confidence(segments: Iterable[ScoredSegment]) -> float:
    """The confidence of the word that the network was least sure of, 0 to 1; 1 without words."""
    log_probs = (
        log_prob
        for segment in segments
        for log_prob in word_log_probs(segment.target_pieces, segment.token_log_probs)
    )
    return min(1.0, math.exp(min(log_probs, default=0.0)))


def word_log_probs(pieces: Sequence[str], token_log_probs: Sequence[float]) -> Iterator[float]:
    """The log-probability of each word of a segment, in order.

    `token_log_probs` may have one entry more than there are pieces, for the end: it is no word.
    """
    total, has_letters, before = 0.0, False, ""
    for text, log_prob in _characters(pieces, token_log_probs):
        starts_word = text.startswith(_SPACE) or _is_unspaced(before) or _is_unspaced(text)
        if starts_word and has_letters:
            yield total
            total, has_letters = 0.0, False
        total += log_prob
        has_letters = has_letters or text != _SPACE
        before = text[-1:]
    if has_letters:
        yield total


def unsure_below(metrics: Mapping[str, Any]) -> float | None:
    """The bound in a checkpoint's metrics.json; None where it has none, or no number there."""
    calibration = metrics.get("calibration")
    bound = calibration.get("unsure_below") if isinstance(calibration, dict) else None
    if isinstance(bound, int | float) and not isinstance(bound, bool):
        return float(bound)
    return None


def _characters(
    pieces: Sequence[str], token_log_probs: Sequence[float]
) -> Iterator[tuple[str, float]]:
    """The pieces with their log-probabilities; those that are bytes of a character as that one."""
    pending, pending_log_prob = b"", 0.0
    # Not strict: the end of the sentence has a log-probability and no piece.
    for piece, log_prob in zip(pieces, token_log_probs, strict=False):
        if _BYTES.fullmatch(piece) is None:
            if pending:
                yield pending.decode(errors="replace"), pending_log_prob
                pending, pending_log_prob = b"", 0.0
            yield piece, log_prob
            continue
        byte = int(piece[3:5], 16)
        if pending and byte & 0xC0 != 0x80:  # the first byte of the next character
            yield pending.decode(errors="replace"), pending_log_prob
            pending, pending_log_prob = b"", 0.0
        pending += bytes([byte])
        pending_log_prob += log_prob
    if pending:
        yield pending.decode(errors="replace"), pending_log_prob


def _is_unspaced(text: str) -> bool:
    return bool(text) and UNSPACED_CHARACTER.match(text) is not None
