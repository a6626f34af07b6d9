"""GET /metrics, for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
)

from service.api.v1 import NATIVE
from service.monitoring.metrics import Metrics
from service.protocol.openapi import documented_errors


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route GET /metrics, which is answered under overload too."""
    router = APIRouter(tags=["health"], responses=documented_errors(NATIVE))

    @router.get("/metrics", summary="Get the metrics for Prometheus", response_class=Response)
    async def read() -> Response:
        """Returns all metrics in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
