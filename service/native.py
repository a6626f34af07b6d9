"""The native face, `/v1`: bodies in and out, as `schemas.py` describes them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from service.dialects import NATIVE
from service.dispatcher import Dispatcher, ModelInfo
from service.documented import documented_errors
from service.errors import InvalidRequest
from service.gate import Gate
from service.schemas import (
    AlternativeBody,
    ModelBody,
    ModelsResponse,
    PairScore,
    ScoreRequest,
    ScoreResponse,
    SegmentBody,
    TranslateRequest,
    TranslateResponse,
    TranslationBody,
    UsedModel,
)
from service.strict_json import StrictRoute
from service.warning_signs import warnings_of

if TYPE_CHECKING:
    from model.beam_search import SearchConfig
    from model.translator import SegmentTranslation, Translation

# Of metrics.json. The rest (example sentences, hashes, training config) is the team's own affair.
_SHOWN_METRICS = ("dev", "test", "created", "parent")

_RENDERED_AT_ONCE = 10_000  # characters; less than a millisecond, and no change of threads


def native_router(gate: Gate) -> APIRouter:
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
        """Answers one translation a text, in order.

        All texts are checked before any is translated, so a request with one impossible text is
        refused as a whole, and `error.field` says which (`text[3]`).
        """
        dispatcher = gate.choose(model=body.model, source=body.source, target=body.target)
        translations = await gate.translate(
            request,
            dispatcher,
            body.texts,
            _search(body, dispatcher.info.search, gate.settings.max_beam_size),
            alignments=body.alignments,
            name_of=body.text_field,
        )
        if body.alignments or sum(map(len, body.texts)) > _RENDERED_AT_ONCE:
            # Attention of long texts is megabytes: writing it must not keep the loop from others.
            content = await asyncio.to_thread(_render, dispatcher, translations, body)
        else:
            content = _render(dispatcher, translations, body)
        return Response(content, media_type="application/json")

    @router.post("/score", summary="Score given translations")
    async def score(request: Request, body: ScoreRequest) -> ScoreResponse:
        """Answers how likely the model finds each pair's target, to rank candidates."""
        dispatcher = gate.choose(model=body.model, source=body.source, target=body.target)
        pairs = [(pair.source, pair.target) for pair in body.pairs]
        scores = await gate.score(request, dispatcher, pairs)
        return ScoreResponse(
            model=_used_model(dispatcher),
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
        """Answers every model of the models folder, also one that failed to load."""
        return ModelsResponse(models=[_model(model) for model in gate.registry.dispatchers])

    return router


def _search(body: TranslateRequest, defaults: "SearchConfig", max_beam_size: int) -> "SearchConfig":
    """The model's defaults with the request's settings on top; InvalidRequest names a bad one."""
    beam_size = defaults.beam_size if body.beam_size is None else body.beam_size
    if beam_size > max_beam_size:
        raise InvalidRequest(
            f"beam_size is {beam_size}, the limit is {max_beam_size} (max_beam_size)",
            field="beam_size",
        )
    if body.alternatives >= beam_size:
        raise InvalidRequest(
            f"alternatives must be below beam_size, which is {beam_size}; raise beam_size",
            field="alternatives",
        )
    given = {
        "length_penalty": body.length_penalty,
        "min_length_ratio": body.min_length_ratio,
        "max_length_ratio": body.max_length_ratio,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(defaults, beam_size=beam_size, n_best=body.alternatives + 1, **changes)


def _used_model(dispatcher: Dispatcher) -> UsedModel:
    info = dispatcher.info
    return UsedModel(
        name=dispatcher.name,
        version=info.version,
        source=info.source_language,
        target=info.target_language,
    )


def _model(dispatcher: Dispatcher) -> ModelBody:
    info: ModelInfo | None = dispatcher.known_info
    if info is None:
        return ModelBody(name=dispatcher.name, status=dispatcher.state.value)
    return ModelBody(
        name=dispatcher.name,
        status=dispatcher.state.value,
        source=info.source_language,
        target=info.target_language,
        version=info.version,
        precision=info.precision,
        max_source_tokens=info.max_source_tokens,
        beam_size=info.search.beam_size,
        metrics={key: info.metrics[key] for key in _SHOWN_METRICS if key in info.metrics},
    )


def _render(
    dispatcher: Dispatcher, translations: "Sequence[Translation]", body: TranslateRequest
) -> str:
    response = TranslateResponse(
        model=_used_model(dispatcher),
        translations=[
            _translation(text, translation, body)
            for text, translation in zip(body.texts, translations, strict=True)
        ],
    )
    return response.model_dump_json(exclude_none=True)


def _translation(text: str, translation: "Translation", body: TranslateRequest) -> TranslationBody:
    alternatives = [
        AlternativeBody(text=other.text, score=other.score, log_prob=other.log_prob)
        for other in translation.alternatives
    ]
    detailed = body.alignments or body.token_log_probs
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
        warnings=warnings_of(text, translation) if body.warnings else None,
    )


def _segment(segment: "SegmentTranslation", body: TranslateRequest) -> SegmentBody:
    return SegmentBody(
        source=segment.source,
        text=segment.text,
        score=segment.score,
        source_pieces=list(segment.source_pieces),
        target_pieces=list(segment.target_pieces),
        token_log_probs=list(segment.token_log_probs) if body.token_log_probs else None,
        alignment=_matrix(segment.alignment) if body.alignments else None,
    )


def _matrix(alignment: Sequence[Sequence[float]] | None) -> list[list[float]] | None:
    if alignment is None:
        return None
    # Four digits are more than attention means, and a third of the bytes.
    return [[round(float(weight), 4) for weight in row] for row in alignment]
