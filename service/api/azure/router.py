"""Joins both versions of Azure's API, each at the root and under its long prefix."""

from typing import Any

from fastapi import APIRouter

from service.api.azure.dialect import PREFIX, VERSION_3, VERSION_2026
from service.api.azure.version_3 import router_3
from service.api.azure.version_2026 import router_2026
from service.api.multilingual import MultilingualTranslator

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": 'Refused: `{"error": {"code": 400036, "message": "..."}}`'},
    "5XX": {"description": "Failed or not possible now; same body as 4XX; see Retry-After"},
}


def azure_router(multilingual: MultilingualTranslator) -> APIRouter:
    """Azure's routes, at the root as its clients expect them and under /translator/text."""
    router = APIRouter(tags=["as Azure Translator"], responses=_ERRORS)
    for version, routes in (
        (VERSION_3, router_3(multilingual)),
        (VERSION_2026, router_2026(multilingual)),
    ):
        # Not documented at the root: OpenAPI does not tell apart routes by their query strings,
        # and other APIs have the same paths there.
        router.include_router(routes, include_in_schema=False)
        router.include_router(routes, prefix=f"{PREFIX}/v{version}")
    return router
