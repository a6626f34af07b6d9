"""Builds the application: its routes, the middleware around them, the handlers of errors.

`error_table.py` maps exceptions to statuses; each API words its own errors, in `service/api`.
Starting and ending the process is in `server.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from model.errors import DragomanError
from service.access.control import AccessControl
from service.api.admin import admin_router
from service.api.apertium import APERTIUM, apertium_router
from service.api.azure.dialect import AZURE, AZURE_3
from service.api.azure.router import azure_router
from service.api.deepl import DEEPL, deepl_router
from service.api.google import GOOGLE, google_router
from service.api.health import health_router
from service.api.libretranslate import LIBRETRANSLATE, libretranslate_router
from service.api.metrics import metrics_router
from service.api.multilingual import MultilingualTranslator
from service.api.translation_service import TranslationService
from service.api.v1 import NATIVE, native_router
from service.api.web_page import page_router
from service.http.authentication import AuthenticationMiddleware
from service.http.body_limit import BodyLimit
from service.http.connection import ConnectionLimits
from service.http.context import ContextMiddleware
from service.http.cors import allow_origins
from service.http.overload import OverloadMiddleware
from service.http.server_errors import ServerErrorMiddleware
from service.lifecycle import Lifecycle
from service.limits import Limits
from service.monitoring.metrics import Metrics
from service.monitoring.request_log import RequestLog
from service.protocol.dialects import Dialects
from service.protocol.validation import invalid_request
from service.request_context import context_of
from service.serving.cache import TranslationCache
from service.serving.pending import PendingRequests
from service.serving.registry import Registry
from service.serving.reload import Reloader
from service.settings import Settings
from service.text.detection import Detector

if TYPE_CHECKING:
    from service.monitoring.tracing import Tracing

# Seconds for the models' threads to end once all requests are answered.
CLOSE_TIMEOUT_S = 2.0


# The first that claims a request has it; all other requests are of /v1.
DIALECTS = Dialects((AZURE_3, AZURE, APERTIUM, LIBRETRANSLATE, DEEPL, GOOGLE), default=NATIVE)


@dataclass(frozen=True)
class Application:
    """The service as an ASGI application, and what its server needs of it."""

    asgi: FastAPI
    connection_limits: ConnectionLimits
    access: AccessControl


def create_app(
    registry: Registry,
    settings: Settings,
    lifecycle: Lifecycle | None = None,
    reloader: Reloader | None = None,
) -> Application:
    """The service; the application's lifespan starts and ends the models' threads.

    Without a `reloader` the models stay as they are.
    Raises ConfigError for a keys file or a usage file that cannot be used.
    """
    lifecycle = lifecycle or Lifecycle()
    reloader = reloader or Reloader(registry, None)
    limits = Limits(settings)
    cache = TranslationCache(settings.cache_characters)
    metrics = Metrics(registry, reloader, cache, lifecycle, settings.max_connections)
    access = AccessControl(settings)
    translation_service = TranslationService(
        registry, settings, lifecycle, metrics, cache, access, limits
    )
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

    # FastAPIOffline serves the scripts of /docs itself, so that it works without the internet.
    app = FastAPIOffline(
        redoc_url=None,
        title="Dragoman",
        summary="Self-hosted machine translation",
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would repeat the Host header that a client sent
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
    if access.needs_keys:  # without keys there is no admin
        routers.append(admin_router(reloader, lifecycle))
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(DragomanError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_error)
    _add_middleware(
        app,
        _Shared(registry, limits, lifecycle, metrics, access),
        routes=[route for router in routers for route in router.routes],
        tracing=tracing,
    )
    connection_limits = ConnectionLimits(limits, lifecycle, NATIVE, metrics.count_refusal)
    return Application(app, connection_limits, access)


@dataclass(frozen=True)
class _Shared:
    """What the middleware shares with the routes."""

    registry: Registry
    limits: Limits
    lifecycle: Lifecycle
    metrics: Metrics
    access: AccessControl


def _add_middleware(
    app: FastAPI, shared: _Shared, routes: Sequence[BaseRoute], tracing: "Tracing | None"
) -> None:
    """Adds the middleware, innermost first: a request passes it from the last to the first."""
    settings, limits, lifecycle = shared.limits.settings, shared.limits, shared.lifecycle
    pending = PendingRequests()
    app.add_middleware(AuthenticationMiddleware, access=shared.access)
    app.add_middleware(BodyLimit, limits=limits, lifecycle=lifecycle)
    app.add_middleware(
        OverloadMiddleware,
        registry=shared.registry,
        limits=limits,
        lifecycle=lifecycle,
        pending=pending,
    )
    app.add_middleware(ServerErrorMiddleware)
    if settings.cors_origins is not None:
        allow_origins(app, settings.cors_origins, NATIVE)
    app.add_middleware(RequestLog, count=shared.metrics.count_request, routes=routes)
    if tracing is not None:
        tracing.trace(app)
    app.add_middleware(ContextMiddleware, dialects=DIALECTS, limits=limits, pending=pending)
    if settings.trusted_proxies is not None:  # otherwise a client could choose its address
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)


def open_tracing(settings: Settings) -> "Tracing | None":
    """The tracing that the settings ask for; ConfigError where OpenTelemetry is not installed."""
    if not settings.tracing:
        return None
    from service.monitoring.tracing import Tracing  # needs packages that are an extra

    return Tracing()


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    return context_of(request.scope).error_response(error)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    invalid = invalid_request(error.errors(), above=1)  # "body"
    return context_of(request.scope).error_response(invalid)
