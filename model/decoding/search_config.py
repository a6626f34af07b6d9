"""Settings and results of a search: plain data, without torch."""

import math
from dataclasses import dataclass

from model.config import SearchDefaults
from model.errors import ConfigError

_DEFAULTS = SearchDefaults()


@dataclass(frozen=True)
class SearchConfig:
    """Search settings of one request; requests with different settings share an engine's steps."""

    beam_size: int = _DEFAULTS.beam_size  # 1: greedy
    length_penalty: float = _DEFAULTS.length_penalty  # alpha of `length_penalty`
    n_best: int = 1  # hypotheses returned, at most beam_size
    min_length_ratio: float = 0.0  # shortest target, in source lengths
    max_length_ratio: float = 2.0  # longest target, in source lengths ...
    max_length_extra: int = 10  # ... plus this many pieces

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise ConfigError(f"beam_size is {self.beam_size}; it must be at least 1")
        if not 1 <= self.n_best <= self.beam_size:
            raise ConfigError(
                f"n_best is {self.n_best} and beam_size {self.beam_size}; "
                f"n_best must be between 1 and beam_size"
            )
        for name in ("length_penalty", "min_length_ratio", "max_length_ratio", "max_length_extra"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value}; it must be a finite number of at least 0")
        if self.min_length_ratio > self.max_length_ratio:
            raise ConfigError(
                f"min_length_ratio is {self.min_length_ratio} and max_length_ratio "
                f"{self.max_length_ratio}; the minimum must not exceed the maximum"
            )

    def max_length(self, src_len: int) -> int:
        """Returns the longest target of a source of this length; both lengths include EOS."""
        return max(1, int(self.max_length_ratio * src_len) + self.max_length_extra)

    def min_length(self, src_len: int) -> int:
        """Returns the shortest target of a source of this length; both lengths include EOS."""
        return min(math.ceil(self.min_length_ratio * src_len), self.max_length(src_len))


@dataclass(frozen=True)
class Hypothesis:
    """One translation of one segment, in target ids."""

    token_ids: tuple[int, ...]  # neither BOS nor EOS
    log_prob: float  # of all pieces, EOS's included when finished
    score: float  # log_prob / length_penalty
    token_log_probs: tuple[float, ...]  # per piece; EOS's comes last when finished
    attention: tuple[tuple[float, ...], ...] | None  # [target place][source place], EOS's included
    finished: bool  # False: cut by the length limit


def length_penalty(length: int, alpha: float) -> float:
    """Returns the divisor that stops beam search from favouring short output.

    ((5 + length) / 6) ** alpha: Wu et al. (2016), eq. 14.
    length counts EOS; alpha 0 turns the penalty off.
    """
    return float(((5 + length) / 6) ** alpha)
