"""The native API, `/v1`; `v1_bodies.py` describes its bodies."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from model.decoding.search_config import SearchConfig
from model.translation import SegmentTranslation, Translation
from service.api.routes import StrictRoute
from service.api.translation_service import TranslationService
from service.api.v1_bodies import (
    AlternativeBody,
    ModelBody,
    ModelsResponse,
    PairScore,
    PivotBody,
    ScoreRequest,
    ScoreResponse,
    SegmentBody,
    SourceWordBody,
    TranslateRequest,
    TranslateResponse,
    TranslationBody,
    UsedModel,
    WordBody,
)
from service.errors import InvalidRequest
from service.limits import Limits
from service.protocol.dialects import Dialect, KeyPlaces
from service.protocol.error_body import ErrorBody, ErrorDetail
from service.protocol.error_table import Refusal
from service.protocol.openapi import documented_errors
from service.serving.registry import Registry
from service.serving.route import Route
from service.serving.served_model import ModelInfo, ServedModel
from service.text.words import Word, words_of


def _error_body(refusal: Refusal) -> object:
    detail = ErrorDetail(code=refusal.code, message=refusal.message, field=refusal.field)
    return ErrorBody(error=detail).model_dump(exclude_none=True)


# For all paths that belong to no other API.
NATIVE = Dialect(
    "/v1",
    speaks=lambda scope: True,
    error_body=_error_body,
    keys=KeyPlaces("Authorization: Bearer KEY", scheme="bearer", header="X-API-Key"),
    translation_paths=frozenset({"/v1/translate", "/v1/score"}),
    error_model=ErrorBody,
)

# Public keys of metrics.json; the rest (example sentences, hashes, training config) is not shown.
_SHOWN_METRICS = ("dev", "test", "calibration", "created", "parent")

# Details of one model's search, which are not available for a translation by two models in turn.
_OF_ONE_MODEL = ("alignments", "offsets", "token_log_probs", "words")

# Characters that are rendered on the event loop, in under a millisecond; more go to a thread.
_RENDERED_AT_ONCE = 10_000


def native_router(translation_service: TranslationService) -> APIRouter:
    """Routes under /v1."""
    router = APIRouter(
        prefix="/v1",
        tags=["translation"],
        route_class=StrictRoute,
        responses=documented_errors(NATIVE),
    )

    @router.post(
        "/translate",
        summary="Translate one text or a list",
        response_model=TranslateResponse,
    )
    async def translate(request: Request, body: TranslateRequest) -> Response:
        """Returns one translation for each text, in order.

        All texts are checked before any is translated: a request with one invalid text is refused
        as a whole, and `error.field` names that text (`text[3]`).
        """
        route = translation_service.route(model=body.model, source=body.source, target=body.target)
        _refuse_details(body, route)
        translations = await translation_service.translate(
            request,
            route,
            body.texts,
            _searches(body, route, translation_service.limits),
            alignments=body.alignments or body.words,
            segmentation=body.segmentation,
            name_of=body.text_field,
        )
        if body.alignments or body.words or sum(map(len, body.texts)) > _RENDERED_AT_ONCE:
            # Attention weights of long texts are megabytes, whose rendering would block the loop.
            content = await asyncio.to_thread(_render, route, translations, body)
        else:
            content = _render(route, translations, body)
        return Response(content, media_type="application/json")

    @router.post("/score", summary="Score given translations")
    async def score(request: Request, body: ScoreRequest) -> ScoreResponse:
        """Returns the model's log-probability of each pair's target, to rank candidates."""
        served_model = translation_service.choose(
            model=body.model, source=body.source, target=body.target
        )
        pairs = [(pair.source, pair.target) for pair in body.pairs]
        scores = await translation_service.score(request, served_model, pairs)
        return ScoreResponse(
            model=_used_model(served_model),
            scores=[
                PairScore(
                    score=score.score,
                    log_prob=score.log_prob,
                    pieces=list(score.pieces),
                    token_log_probs=list(score.token_log_probs),
                )
                for score in scores
            ],
        )

    @router.get("/models", summary="List the models", response_model_exclude_none=True)
    async def models() -> ModelsResponse:
        """Returns every model of the models folder, including those that failed to load."""
        registry = translation_service.registry
        return ModelsResponse(models=[_model(model, registry) for model in registry.served_models])

    return router


def _refuse_details(body: TranslateRequest, route: Route) -> None:
    """Raises InvalidRequest for details that a translation by two models does not have."""
    for name in _OF_ONE_MODEL:
        if route.pivot is not None and getattr(body, name):
            raise InvalidRequest(
                f"{name} is not available for a translation through {route.pivot}; leave it out, "
                "or choose one model by its name",
                field=name,
            )


def _searches(body: TranslateRequest, route: Route, limits: Limits) -> list[SearchConfig]:
    """The search settings for each model of the route; only the last one makes alternatives."""
    without_alternatives = body.model_copy(update={"alternatives": 0})
    bodies = [*[without_alternatives] * (len(route.legs) - 1), body]
    return [
        _search(each, leg.info.search, limits) for each, leg in zip(bodies, route.legs, strict=True)
    ]


def _search(body: TranslateRequest, defaults: SearchConfig, limits: Limits) -> SearchConfig:
    """The model's defaults, replaced by the request's settings; raises InvalidRequest."""
    beam_size = defaults.beam_size if body.beam_size is None else body.beam_size
    limits.check_beam_size(beam_size)
    if body.alternatives >= beam_size:
        raise InvalidRequest(
            f"alternatives is {body.alternatives} and beam_size {beam_size}; "
            "lower alternatives below beam_size or raise beam_size",
            field="alternatives",
        )
    given = {
        "length_penalty": body.length_penalty,
        "min_length_ratio": body.min_length_ratio,
        "max_length_ratio": body.max_length_ratio,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(defaults, beam_size=beam_size, n_best=body.alternatives + 1, **changes)


def _used_model(served_model: ServedModel) -> UsedModel:
    info = served_model.known_info  # known even if the model was replaced in the meantime
    assert info is not None
    return UsedModel(
        name=served_model.name,
        version=info.version,
        source=info.source_language,
        target=info.target_language,
    )


def _pivot(route: Route) -> PivotBody | None:
    if route.pivot is None:
        return None
    return PivotBody(language=route.pivot, model=_used_model(route.legs[0]))


def _model(served_model: ServedModel, registry: Registry) -> ModelBody:
    info: ModelInfo | None = served_model.known_info
    replacement = _replacement(served_model, registry)
    if info is None:
        return ModelBody(
            name=served_model.name, status=served_model.state.value, replacement=replacement
        )
    return ModelBody(
        name=served_model.name,
        status=served_model.state.value,
        source=info.source_language,
        target=info.target_language,
        version=info.version,
        precision=info.precision,
        exact=info.exact,
        max_source_tokens=info.max_source_tokens,
        beam_size=info.search.beam_size,
        metrics={key: info.metrics[key] for key in _SHOWN_METRICS if key in info.metrics},
        replacement=replacement,
    )


def _replacement(
    served_model: ServedModel, registry: Registry
) -> Literal["loading", "failed"] | None:
    if registry.replacements.get(served_model.name, served_model) is not served_model:
        return "loading"
    return "failed" if served_model.name in registry.failed_replacements else None


def _render(route: Route, translations: Sequence[Translation], body: TranslateRequest) -> str:
    response = TranslateResponse(
        model=_used_model(route.last),
        pivot=_pivot(route),
        translations=[_translation(translation, body) for translation in translations],
    )
    return response.model_dump_json(exclude_none=True)


def _translation(translation: Translation, body: TranslateRequest) -> TranslationBody:
    alternatives = [
        AlternativeBody(text=other.text, score=other.score, log_prob=other.log_prob)
        for other in translation.alternatives
    ]
    detailed = body.alignments or body.token_log_probs or body.offsets or body.words
    segments = [_segment(segment, body) for segment in translation.segments] if detailed else None
    return TranslationBody(
        text=translation.text,
        score=translation.score,
        log_prob=translation.log_prob,
        truncated=translation.truncated,
        source_tokens=translation.source_tokens,
        target_tokens=translation.target_tokens,
        alternatives=alternatives if body.alternatives else None,
        segments=segments,
        warnings=list(translation.warnings) if body.warnings else None,
    )


def _segment(segment: SegmentTranslation, body: TranslateRequest) -> SegmentBody:
    pieces = body.alignments or body.token_log_probs
    source, target = segment.source_span, segment.target_span
    return SegmentBody(
        source=segment.source,
        text=segment.text,
        score=segment.score,
        source_start=source.start if body.offsets else None,
        source_end=source.end if body.offsets else None,
        target_start=target.start if body.offsets else None,
        target_end=target.end if body.offsets else None,
        words=[_word(word) for word in words_of(segment)] if body.words else None,
        source_pieces=list(segment.source_pieces) if pieces else None,
        target_pieces=list(segment.target_pieces) if pieces else None,
        token_log_probs=list(segment.token_log_probs) if body.token_log_probs else None,
        alignment=_matrix(segment.alignment) if body.alignments else None,
    )


def _word(word: Word) -> WordBody:
    sources = word.sources and [
        SourceWordBody(
            text=source.text, start=source.start, end=source.end, weight=round(source.weight, 4)
        )
        for source in word.sources
    ]
    return WordBody(
        text=word.text,
        start=word.start,
        end=word.end,
        confidence=round(word.confidence, 4),
        sources=sources,
    )


def _matrix(alignment: Sequence[Sequence[float]] | None) -> list[list[float]] | None:
    if alignment is None:
        return None
    # Four digits are precise enough for attention, and take a third of the bytes.
    return [[round(float(weight), 4) for weight in row] for row in alignment]
