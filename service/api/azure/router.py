"""Both versions of Azure's API, each under all its addresses."""

from typing import Any

from fastapi import APIRouter

from service.api.azure.dialect import PREFIX, VERSION_3, VERSION_2026
from service.api.azure.version_3 import router_3
from service.api.azure.version_2026 import router_2026
from service.api.multilingual import MultilingualTranslator

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": 'Refused: `{"error": {"code": 400036, "message": "..."}}`'},
    "5XX": {"description": "Not possible now, or failed; the same body; see Retry-After"},
}


def azure_router(multilingual: MultilingualTranslator) -> APIRouter:
    """Azure's routes, at the root as its clients expect them and under their long names."""
    router = APIRouter(tags=["as Azure Translator"], responses=_ERRORS)
    for version, routes in (
        (VERSION_3, router_3(multilingual)),
        (VERSION_2026, router_2026(multilingual)),
    ):
        # At the root the documentation's paths are taken: it knows no query strings.
        router.include_router(routes, include_in_schema=False)
        router.include_router(routes, prefix=f"{PREFIX}/v{version}")
    return router
