"""create_app: the routes, the middleware around them, and the handlers that turn errors into JSON.

Which exception becomes which status is `error_table.py`'s; how a process lives and dies around
the application is `server.py`'s.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from model.errors import DragomanError
from service.body_limit import BodyLimit
from service.error_table import error_response, http_error_response
from service.errors import InvalidRequest
from service.gate import Gate
from service.health import health_router
from service.lifecycle import Lifecycle
from service.native import native_router
from service.registry import Registry
from service.request_log import RequestLog
from service.schemas import TEXT_TAGS
from service.settings import Settings
from service.strict_json import plain_name
from service.web_page import page_router

# How long the models' threads get to end once nothing is left to answer.
CLOSE_TIMEOUT_S = 2.0

_MAX_PROBLEMS = 3


def create_app(
    registry: Registry, settings: Settings, lifecycle: Lifecycle | None = None
) -> FastAPI:
    """The service as an ASGI application; its lifespan starts and ends the models' threads."""
    gate = Gate(registry, settings, lifecycle or Lifecycle())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        registry.start()
        yield
        await asyncio.to_thread(registry.close, CLOSE_TIMEOUT_S)

    # Its documentation page brings its own scripts: /docs works without the internet.
    app = FastAPIOffline(
        redoc_url=None,
        title="Dragoman",
        summary="Self-hosted machine translation",
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would repeat the Host header it was sent
    )
    app.include_router(native_router(gate))
    app.include_router(health_router(gate))
    app.include_router(page_router(settings))
    app.add_exception_handler(DragomanError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s
    )
    app.add_middleware(RequestLog)  # added last, so outermost
    return app


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    return error_response(error)


async def _answer_http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return http_error_response(error)


async def _answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [_problem(problem) for problem in error.errors()]
    # A list of a thousand wrong texts is told by its first few.
    message = "; ".join(message for _, message in problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        message += f"; and {len(problems) - _MAX_PROBLEMS} more problems"
    return error_response(InvalidRequest(message, field=problems[0][0]))


def _problem(problem: dict[str, Any]) -> tuple[str | None, str]:
    """Field and sentence of one of pydantic's findings, without the input it quotes."""
    field = _field(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return field, f"{field or 'a field'} is no field of this request; /docs lists them"
    if problem["type"] == "missing":
        return field, f"{field or 'the body'} is missing"
    if problem["type"] == "string_pattern_mismatch":  # only languages have one
        return field, f"{field} is no language tag; send one such as en or pt-BR"
    if problem["type"] == "value_error":  # our own validators' sentences
        return field, str(problem["msg"]).removeprefix("Value error, ")
    return field, f"{field or 'the body'}: {str(problem['msg']).lower()}"


def _field(location: Sequence[object]) -> str | None:
    """A position as the sender would write it: ('body', 'text', 3) is text[3]."""
    field = ""
    for step in location[1:]:  # the first is always "body"
        if isinstance(step, int):
            field += f"[{step}]"
        elif step not in TEXT_TAGS:
            name = plain_name(step)
            if name is None:
                break
            field += f".{name}" if field else name
    return field or None
