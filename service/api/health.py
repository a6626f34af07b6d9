"""Health checks for load balancers and orchestrators; answered under overload too."""

from fastapi import APIRouter, Response

from service.api.translation_service import TranslationService
from service.api.v1_bodies import HealthResponse
from service.lifecycle import Phase


def health_router(translation_service: TranslationService) -> APIRouter:
    """Routes under /health."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.head("/live", include_in_schema=False)
    @router.get("/live", summary="Is the process running?", response_model_exclude_none=True)
    async def live() -> HealthResponse:
        """Returns 200 while the process can answer requests."""
        return HealthResponse(status="live")

    @router.head("/ready", include_in_schema=False)
    @router.get(
        "/ready",
        summary="Should this instance get requests?",
        responses={
            503: {
                "model": HealthResponse,
                "description": "Loading, shutting down, or without a working model",
            }
        },
    )
    async def ready(response: Response) -> HealthResponse:
        """Returns 200 when every model that could be loaded has translated a test sentence.

        Returns 503 while a model is loading, when no model works, and from SIGTERM on.
        """
        states = {
            model.name: model.state.value for model in translation_service.registry.served_models
        }
        if translation_service.lifecycle.phase is not Phase.SERVING:
            status = "shutting down"
        elif translation_service.registry.ready:
            return HealthResponse(status="ready", models=states)
        else:
            status = "loading" if translation_service.registry.loading else "no model"
        response.status_code = 503
        response.headers["Retry-After"] = "1"
        return HealthResponse(status=status, models=states)

    return router
