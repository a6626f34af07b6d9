"""create_app: the routes, the middleware around them, and the handlers that turn errors into JSON.

Which exception becomes which status is `error_table.py`'s, which client reads errors in which
shape `dialects.py`'s; how a process lives and dies around the application is `server.py`'s.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from model.errors import DragomanError
from service.access.control import AccessControl
from service.api.admin import admin_router
from service.api.apertium import apertium_router
from service.api.azure.router import azure_router
from service.api.deepl import deepl_router
from service.api.google import google_router
from service.api.health import health_router
from service.api.libretranslate import libretranslate_router
from service.api.metrics import metrics_router
from service.api.multilingual import MultilingualTranslator
from service.api.translation_service import TranslationService
from service.api.v1 import native_router
from service.api.web_page import page_router
from service.http.authentication import AuthenticationMiddleware
from service.http.body_limit import BodyLimit
from service.http.cors import allow_origins
from service.http.overload import Door
from service.lifecycle import Lifecycle
from service.monitoring.metrics import Metrics
from service.monitoring.request_log import RequestLog, ServerErrorMiddleware
from service.protocol.dialects import error_response
from service.protocol.validation import invalid_request
from service.serving.cache import TranslationCache
from service.serving.registry import Registry
from service.serving.reload import Reloader
from service.settings import Settings
from service.text.detection import Detector

if TYPE_CHECKING:
    from service.monitoring.tracing import Tracing

# How long the models' threads get to end once nothing is left to answer.
CLOSE_TIMEOUT_S = 2.0


def create_app(
    registry: Registry,
    settings: Settings,
    lifecycle: Lifecycle | None = None,
    reloader: Reloader | None = None,
) -> FastAPI:
    """The service as an ASGI application; its lifespan starts and ends the models' threads.

    Without a `reloader` the models stay as they are.
    Raises ConfigError for a keys file or a usage file that cannot be used.
    """
    cache = TranslationCache(settings.cache_characters)
    reloader = reloader or Reloader(registry, None)
    metrics = Metrics(registry, reloader, cache, settings.max_connections)
    access = AccessControl(settings)
    lifecycle = lifecycle or Lifecycle()
    translation_service = TranslationService(registry, settings, lifecycle, metrics, cache, access)
    detector = Detector(settings.max_queue_texts)
    multilingual = MultilingualTranslator(translation_service, detector)
    tracing = open_tracing(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        registry.start()
        yield
        await reloader.stop()
        await asyncio.to_thread(registry.close, CLOSE_TIMEOUT_S)
        access.close()
        detector.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close, CLOSE_TIMEOUT_S)

    # Its documentation page brings its own scripts: /docs works without the internet.
    app = FastAPIOffline(
        redoc_url=None,
        title="Dragoman",
        summary="Self-hosted machine translation",
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would repeat the Host header it was sent
    )
    routers = [
        native_router(translation_service),
        health_router(translation_service),
        metrics_router(metrics),
        azure_router(multilingual),
        libretranslate_router(multilingual),
        deepl_router(multilingual),
        google_router(multilingual),
        apertium_router(multilingual),
        page_router(settings),
    ]
    if access.needs_keys:  # without keys nobody is an admin
        routers.append(admin_router(reloader, lifecycle))
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    app.add_exception_handler(DragomanError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_error)
    app.state.access = access
    app.state.max_texts = settings.max_texts
    app.state.metrics = metrics
    app.state.door = Door(registry, settings, metrics.count_request, lifecycle)
    app.add_middleware(
        AuthenticationMiddleware, access=access
    )  # added first, so innermost: it may read the body
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_s,
        lifecycle=lifecycle,
    )
    app.add_middleware(ServerErrorMiddleware)
    if settings.cors_origins is not None:
        allow_origins(app, settings.cors_origins)
    app.add_middleware(RequestLog, count=metrics.count_request, routes=routes)
    if settings.trusted_proxies is not None:  # else whoever asks could choose an address
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)
    if tracing is not None:
        tracing.watch(app)
    return app


def open_tracing(settings: Settings) -> "Tracing | None":
    """Where spans go, if they are wanted; ConfigError where OpenTelemetry is not installed."""
    if not settings.tracing:
        return None
    from service.monitoring.tracing import (
        Tracing,  # an extra, which is installed where it is wanted
    )

    return Tracing()


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(request.scope, error)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(request.scope, invalid_request(error.errors(), above=1))  # "body"
