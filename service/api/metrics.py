"""GET /metrics, for Prometheus."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
)

from service.monitoring.metrics import Metrics
from service.protocol.dialects import NATIVE
from service.protocol.openapi import documented_errors

if TYPE_CHECKING:
    pass


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route; outside the translation_service, so that overload can be seen."""
    router = APIRouter(tags=["health"], responses=documented_errors(NATIVE))

    @router.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def read() -> Response:
        """Answers in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
