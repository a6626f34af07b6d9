"""Prometheus metrics of GET /metrics: load, latency, errors and statistics of translations.

A label never holds text, a key, an address or a requested path: only routes, models, versions and
values from fixed lists, so the number of series is bounded. When a model version is replaced, its
series are removed.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from model.translation import Translation
from service.lifecycle import Lifecycle
from service.request_context import RequestRecord
from service.serving.cache import TranslationCache
from service.serving.registry import Registry
from service.serving.reload import Reloader, ReloadResult
from service.serving.served_model import Answer, ModelState, ServedModel
from service.text.languages import has_spaced_words

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_RATIOS = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 4.0)
_LOG_PROBS = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.75, -0.5, -0.25, -0.1)
_OF_MODEL = ("model", "version")


class Metrics:
    """Counts events while the service runs; current values are read at each scrape."""

    def __init__(
        self,
        registry: Registry,
        reloader: Reloader,
        cache: TranslationCache,
        lifecycle: Lifecycle,
        max_connections: int,
    ) -> None:
        self._all = CollectorRegistry()
        ProcessCollector(registry=self._all)
        PlatformCollector(registry=self._all)
        self._all.register(_Models(registry, reloader))
        self._all.register(_Cache(cache))
        self._requests = Counter(
            "dragoman_requests",
            "Requests by route, method and status; gone: the client disconnected before an answer.",
            ("route", "method", "status"),
            registry=self._all,
        )
        self._seconds = Histogram(
            "dragoman_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._all,
        )
        self._refused = Counter(
            "dragoman_refused",
            "Requests and connections that were refused, by error code.",
            ("reason",),
            registry=self._all,
        )
        Gauge("dragoman_connections", "Open connections.", registry=self._all).set_function(
            lambda: lifecycle.num_connections
        )
        Gauge("dragoman_max_connections", "Limit on open connections.", registry=self._all).set(
            max_connections
        )
        self._cache_texts = Counter(
            "dragoman_cache_texts",
            "Texts found in the cache or repeated in a request (hit), shared with an equal text in "
            "flight (shared), or translated (miss).",
            ("result",),
            registry=self._all,
        )
        self._stages = Histogram(
            "dragoman_stage_seconds",
            "Seconds in each stage of a request. By model, for texts that are not in the cache: "
            "queue, until an engine gets the first text; decode, until the last text is done. "
            'With model "-": detect, detecting languages; render, writing the answer.',
            ("model", "stage"),
            buckets=_SECONDS,
            registry=self._all,
        )
        self._texts = Counter("dragoman_texts", "Translated texts.", _OF_MODEL, registry=self._all)
        self._source_tokens = Counter(
            "dragoman_source_tokens", "Source pieces translated.", _OF_MODEL, registry=self._all
        )
        self._target_tokens = Counter(
            "dragoman_target_tokens", "Target pieces written.", _OF_MODEL, registry=self._all
        )
        self._warnings = Counter(
            "dragoman_warnings",
            "Translations with a sign that they may be wrong, by kind of sign.",
            (*_OF_MODEL, "warning"),
            registry=self._all,
        )
        self._length_ratio = Histogram(
            "dragoman_length_ratio",
            "Target pieces for each source piece of a text.",
            _OF_MODEL,
            buckets=_RATIOS,
            registry=self._all,
        )
        self._log_prob = Histogram(
            "dragoman_log_prob_per_token",
            "Mean log-probability of a text's target pieces; low where the model is unsure.",
            _OF_MODEL,
            buckets=_LOG_PROBS,
            registry=self._all,
        )
        self._pieces_per_word = Histogram(
            "dragoman_source_pieces_per_word",
            "Source pieces per word; high where texts differ from the training data. Not counted "
            "for languages without spaces between words.",
            _OF_MODEL,
            buckets=(1.0, 1.2, 1.4, 1.7, 2.0, 3.0, 5.0, 10.0),
            registry=self._all,
        )

        self._registry = registry
        reloader.when_closed.append(self._forget)

    def _forget(self, model: str, version: str | None) -> None:
        """Removes the series of a closed version, so that reloads do not accumulate series."""
        current = self._registry.get(model)
        info = None if current is None else current.known_info
        if info is None or info.version != version:
            for metric in (
                self._texts,
                self._source_tokens,
                self._target_tokens,
                self._warnings,
                self._length_ratio,
                self._log_prob,
                self._pieces_per_word,
            ):
                _remove(metric, {"model": model, "version": version or "-"})
        if current is None:
            _remove(self._stages, {"model": model})

    def count_request(self, record: RequestRecord) -> None:
        """Counts a finished request."""
        status = "gone" if record.status is None else str(record.status)
        self._requests.labels(record.route, record.method, status).inc()
        self._seconds.labels(record.route).observe(record.seconds)
        if record.refusal != "-":
            self.count_refusal(record.refusal)
        if record.render_seconds > 0:
            self.count_stage("render", record.render_seconds)

    def count_refusal(self, reason: str) -> None:
        """Counts a refused request, or a refused connection that sent no request."""
        self._refused.labels(reason).inc()

    def count_stage(self, stage: str, seconds: float) -> None:
        """Counts the time of a stage of a request that needs no model."""
        self._stages.labels("-", stage).observe(seconds)

    def count_cache(self, *, hit: int) -> None:
        """Counts texts found in the cache, or equal to another text of their request."""
        self._cache_texts.labels("hit").inc(hit)

    def count_answer(self, served_model: ServedModel, answer: Answer) -> None:
        """Counts the texts that a model translated for a request, and the time they took."""
        num_texts = len(answer.translations)
        self._cache_texts.labels("shared" if answer.shared else "miss").inc(num_texts)
        if not answer.shared:
            self._stages.labels(served_model.name, "queue").observe(answer.queue_s)
            self._stages.labels(served_model.name, "decode").observe(answer.decode_s)

    def count_texts(
        self,
        served_model: ServedModel,
        texts: Sequence[str],
        translations: Sequence[Translation],
    ) -> None:
        """Counts texts, tokens and warnings of translations."""
        info = served_model.known_info
        of_model = (served_model.name, "-" if info is None else info.version)
        self._texts.labels(*of_model).inc(len(texts))
        for text, translation in zip(texts, translations, strict=True):
            source, target = translation.source_tokens, translation.target_tokens
            self._source_tokens.labels(*of_model).inc(source)
            self._target_tokens.labels(*of_model).inc(target)
            for warning in translation.warnings:
                self._warnings.labels(*of_model, warning).inc()
            if source == 0 or target == 0:
                continue
            self._length_ratio.labels(*of_model).observe(target / source)
            self._log_prob.labels(*of_model).observe(translation.log_prob / target)
            if info is not None and has_spaced_words(info.source_language):
                num_words = max(len(text.split()), 1)
                self._pieces_per_word.labels(*of_model).observe(source / num_words)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._all)


def _remove(metric: Counter | Histogram, labels: Mapping[str, str]) -> None:
    """Removes every series that has these labels, whatever its other labels are."""
    matching = {
        tuple(value for name, value in sample.labels.items() if name != "le")  # in their order
        for family in metric.collect()
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }
    for values in matching:
        with contextlib.suppress(KeyError):  # raised by older versions of the library
            metric.remove(*values)


class _Models(Collector):
    """The current state and load of the models."""

    def __init__(self, registry: Registry, reloader: Reloader) -> None:
        self._registry = registry
        self._reloader = reloader

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "dragoman_model_state",
            "1 for the current state of a model, 0 for the other states.",
            labels=("model", "state"),
        )
        waiting = GaugeMetricFamily(
            "dragoman_waiting_texts", "Texts accepted and not yet answered.", labels=("model",)
        )
        characters = GaugeMetricFamily(
            "dragoman_waiting_characters",
            "Characters of the texts accepted and not yet answered.",
            labels=("model",),
        )
        seconds = GaugeMetricFamily(
            "dragoman_waiting_seconds",
            "Estimated seconds until the waiting texts are done, without those of large requests; "
            "0 while the speed is unknown.",
            labels=("model",),
        )
        slots = GaugeMetricFamily(
            "dragoman_slots", "Segments that can be decoded at the same time.", labels=("model",)
        )
        slots_busy = GaugeMetricFamily(
            "dragoman_slots_busy", "Segments that are being decoded.", labels=("model",)
        )
        busy = CounterMetricFamily(
            "dragoman_busy_seconds", "Seconds during which a model had work.", labels=("model",)
        )
        steps = SummaryMetricFamily(
            "dragoman_step_seconds",
            "Seconds of the engines' decoding steps; a step decodes one piece of every segment in "
            "a slot.",
            labels=("model",),
        )
        cancelled = CounterMetricFamily(
            "dragoman_cancelled_texts",
            "Texts cancelled because their clients disconnected or their deadlines passed.",
            labels=("model",),
        )
        for served_model in self._registry.served_models:
            for each in ModelState:
                state.add_metric((served_model.name, each.value), float(served_model.state is each))
            of_model = (served_model.name,)
            waiting.add_metric(of_model, served_model.queue_limits.num_texts)
            characters.add_metric(of_model, served_model.queue_limits.num_characters)
            seconds.add_metric(of_model, served_model.queue_limits.wait_s() or 0.0)
            busy.add_metric(of_model, served_model.busy_s)
            cancelled.add_metric(of_model, served_model.num_cancelled_texts)
            usage = served_model.usage
            if usage is not None:
                slots.add_metric(of_model, usage.num_slots)
                slots_busy.add_metric(of_model, usage.num_busy)
                steps.add_metric(of_model, usage.num_steps, usage.step_s)
        swaps = CounterMetricFamily(
            "dragoman_swaps",
            "Models added, replaced or removed by a reload, or that failed to load, by result.",
            labels=("result",),
        )
        for result in (
            ReloadResult.ADDED,
            ReloadResult.REPLACED,
            ReloadResult.REMOVED,
            ReloadResult.FAILED,
        ):
            swaps.add_metric((result.value,), self._reloader.results[result])
        yield from (state, waiting, characters, seconds, slots, slots_busy)
        yield from (busy, steps, cancelled, swaps)


class _Cache(Collector):
    """The current size of the cache."""

    def __init__(self, cache: TranslationCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "dragoman_cache_characters",
            "Characters in the cache of translations, as the setting cache_characters counts them.",
            value=self._cache.num_characters,
        )
