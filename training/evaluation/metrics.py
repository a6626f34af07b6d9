"""Computes BLEU, chrF and TER with sacreBLEU's signatures, for one system or two compared."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

from model.batch_translate import translate_in_order
from model.decoding.search_config import SearchConfig
from model.errors import InputError
from model.quality import least_word_confidence
from model.text.languages import CHINESE, UNSPACED_WORDS, primary_subtag
from model.text.text_file import one_line
from model.translation import Translation

if TYPE_CHECKING:
    from model.translator import Translator

_WINDOW = 4096  # sentences at a time, which limits the memory for their alignments and scores
_SIGNIFICANT = 0.05  # the usual level; p itself is printed as well


@dataclass(frozen=True)
class MetricScore:
    """Value of one metric, from 0 to 100 (TER may exceed it), and its sacreBLEU signature."""

    value: float
    signature: str


@dataclass(frozen=True)
class Scores:
    """Corpus scores of translations with one reference each."""

    bleu: MetricScore
    chrf: MetricScore
    ter: MetricScore  # an error rate: lower is better
    exact_match: float  # percent of translations equal to their reference, ignoring outer spaces
    num_segments: int

    def to_json(self) -> dict[str, Any]:
        return {
            **{
                name: {"score": round(metric.value, 4), "signature": metric.signature}
                for name, metric in self._metrics().items()
            },
            "exact_match": round(self.exact_match, 4),
            "segments": self.num_segments,
        }

    def lines(self) -> list[str]:
        """Returns one line of text per metric; sacreBLEU's metrics end in their signature."""
        labels = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}
        rows = [
            f"{labels[name]:<12}{metric.value:6.2f}   {metric.signature}"
            for name, metric in self._metrics().items()
        ]
        return [
            *rows,
            f"{'exact match':<12}{self.exact_match:6.2f}   % of {self.num_segments:,} segments",
        ]

    def _metrics(self) -> dict[str, MetricScore]:
        return {"bleu": self.bleu, "chrf": self.chrf, "ter": self.ter}


@dataclass(frozen=True)
class MetricComparison:
    """One metric of two systems, by paired bootstrap resampling (Koehn, 2004)."""

    first: float
    second: float
    first_interval: float  # half of the 95 % confidence interval
    second_interval: float
    p_value: float  # of a difference this large if the systems were equally good
    signature: str

    @property
    def difference(self) -> float:
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Comparison of two systems on one test set, per metric."""

    bleu: MetricComparison
    chrf: MetricComparison
    ter: MetricComparison

    def to_json(self) -> dict[str, Any]:
        return {
            name: {
                "first": round(metric.first, 4),
                "first_interval": round(metric.first_interval, 4),
                "second": round(metric.second, 4),
                "second_interval": round(metric.second_interval, 4),
                "difference": round(metric.difference, 4),
                "p_value": round(metric.p_value, 4),
                "signature": metric.signature,
            }
            for name, metric in (("bleu", self.bleu), ("chrf", self.chrf), ("ter", self.ter))
        }

    def lines(self) -> list[str]:
        rows = [f"{'':<8}{'first':>16}{'second':>16}{'difference':>12}{'p':>8}"]
        for label, metric in (("BLEU", self.bleu), ("chrF2", self.chrf), ("TER", self.ter)):
            first = f"{metric.first:.2f} ± {metric.first_interval:.2f}"
            second = f"{metric.second:.2f} ± {metric.second_interval:.2f}"
            rows.append(
                f"{label:<8}{first:>16}{second:>16}{metric.difference:>+12.2f}"
                f"{metric.p_value:>8.3f}  {self._verdict(label, metric)}"
            )
        return [*rows, f"paired bootstrap, ± 95 % interval; {self.bleu.signature}"]

    @staticmethod
    def _verdict(label: str, metric: MetricComparison) -> str:
        if metric.p_value >= _SIGNIFICANT:
            return "no significant difference"
        second_wins = (metric.difference > 0) != (label == "TER")
        return "second is better" if second_wins else "first is better"


def bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """Returns corpus BLEU with the usual tokenizer of the target language."""
    return float(_bleu_metric(language).corpus_score(list(hypotheses), [list(references)]).score)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns corpus chrF2."""
    return float(CHRF().corpus_score(list(hypotheses), [list(references)]).score)


def corpus_scores(
    hypotheses: Sequence[str], references: Sequence[str], *, target_language: str
) -> Scores:
    """Returns all metrics; raises InputError for unequal counts or no segments."""
    _check_counts(hypotheses, references)
    values = {}
    for name, metric in _metrics(target_language).items():
        result = metric.corpus_score(list(hypotheses), [list(references)])
        values[name] = MetricScore(result.score, str(metric.get_signature()))
    num_exact = sum(
        hypothesis.strip() == reference.strip()
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    )
    return Scores(
        **values,
        exact_match=100 * num_exact / len(references),
        num_segments=len(references),
    )


def compare(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    *,
    target_language: str,
) -> Comparison:
    """Compares two systems and tests whether the difference may be chance.

    Uses 1,000 paired bootstrap resamples. SACREBLEU_SEED sets the seed; the signature contains it.
    """
    _check_counts(first, references)
    _check_counts(second, references)
    test = PairedTest(
        named_systems=[("first", list(first)), ("second", list(second))],
        metrics=_metrics(target_language),
        references=[list(references)],
        test_type="bs",
    )
    signatures, results = test()
    by_metric = {}
    for label, name in (("BLEU", "bleu"), ("chrF2", "chrf"), ("TER", "ter")):
        first_result, second_result = results[label]
        assert isinstance(first_result, Result)
        assert isinstance(second_result, Result)
        by_metric[name] = MetricComparison(
            first=first_result.score,
            second=second_result.score,
            first_interval=_required(first_result.ci),
            second_interval=_required(second_result.ci),
            # For equal scores sacreBLEU reports a significant difference, because no resample
            # differs from none.
            p_value=1.0
            if first_result.score == second_result.score
            else _required(second_result.p_value),
            signature=str(signatures[label]),
        )
    return Comparison(**by_metric)


def translate_all(
    translator: "Translator",
    sources: Sequence[str],
    search: SearchConfig | None = None,
    *,
    progress: Callable[[int], None] = lambda num_done: None,
) -> list[str]:
    """Translates each source into one line; raises InputError with the line of a bad source."""
    windows = _windows(translator, sources, search, progress)
    return [one_line(each.text) for window in windows for each in window]


def translate_with_confidence(
    translator: "Translator", sources: Sequence[str], search: SearchConfig | None = None
) -> tuple[list[str], list[float]]:
    """Translates like `translate_all`; also returns the least word confidence of each."""
    texts: list[str] = []
    confidences: list[float] = []
    for window in _windows(translator, sources, search, lambda num_done: None):
        texts += [one_line(each.text) for each in window]
        confidences += [least_word_confidence(each.segments) for each in window]
    return texts, confidences


def _windows(
    translator: "Translator",
    sources: Sequence[str],
    search: SearchConfig | None,
    progress: Callable[[int], None],
) -> Iterator[list[Translation]]:
    for start in range(0, len(sources), _WINDOW):
        yield _translate_window(translator, sources, start, search, progress)


def _translate_window(
    translator: "Translator",
    sources: Sequence[str],
    start: int,
    search: SearchConfig | None,
    progress: Callable[[int], None],
) -> list[Translation]:
    return translate_in_order(
        translator,
        sources[start : start + _WINDOW],
        search,
        name_of=lambda index: f"source, line {start + index + 1}",
        progress=lambda num_done: progress(start + num_done),
    )


def _required(value: float | None) -> float:
    assert value is not None  # the bootstrap test always sets it
    return float(value)


def _metrics(target_language: str) -> dict[str, Metric]:
    spaceless = primary_subtag(target_language) in UNSPACED_WORDS
    return {
        "bleu": _bleu_metric(target_language),
        "chrf": CHRF(),
        # TER counts words; in languages without spaces it counts characters.
        "ter": TER(normalized=spaceless, asian_support=spaceless),
    }


def _bleu_metric(target_language: str) -> BLEU:
    language = primary_subtag(target_language)
    if language in CHINESE:
        tokenizer = "zh"
    elif language == "ja" and importlib.util.find_spec("MeCab") is not None:
        tokenizer = "ja-mecab"
    elif language in UNSPACED_WORDS:
        tokenizer = "char"
    else:
        tokenizer = "13a"
    # force suppresses a warning for tokenised test sets; the signature stays the same.
    return BLEU(tokenize=tokenizer, force=True)


def _check_counts(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses):,} translations cannot be scored against {len(references):,} "
            f"references; line n of the source needs line n of the reference"
        )
    if not references:
        raise InputError("nothing to score: source and reference are empty; name other files")
