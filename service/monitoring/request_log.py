"""ASGI middleware around everything: request ids and one log line a request; and the last resort.

The line carries ids, lengths and times, never text: of the path only the route that matched, of
the headers only an id that looks like one.
"""

import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import describe
from service.protocol.dialects import REFUSAL, error_response
from service.request_record import ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER, RequestRecord

logger = logging.getLogger("dragoman.request")


_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def valid_id(given: str) -> bool:
    """Whether a client's id for its request may go into the log."""
    return _ID.fullmatch(given) is not None


def write_line(record: RequestRecord) -> None:
    """Logs one finished request."""
    logger.info(
        "request %s %s %s %s %.1f ms %d bytes key=%s model=%s texts=%d characters=%d refusal=%s",
        record.request_id,
        record.method,
        record.route,
        record.status or "gone",
        record.seconds * 1000,
        record.num_bytes_sent,
        record.key,
        record.model,
        record.num_texts,
        record.num_characters,
        record.refusal,
        extra=vars(record),  # fields of their own where lines are JSON
    )


class RequestLog:
    """Gives each request its id, and logs it."""

    def __init__(
        self,
        app: ASGIApp,
        count: Callable[[RequestRecord], None],
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        """`count` is told of every request that is over; `routes` are what one may ask for."""
        self.app = app
        self._count = count
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(ID_HEADER, "")
        record = RequestRecord(
            request_id=given if valid_id(given) else uuid.uuid4().hex,
            method=scope["method"] if scope["method"] in _METHODS else "-",
        )
        scope["dragoman.record"] = record
        started = time.monotonic()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                translated_at = scope.get("dragoman.translated_at")
                if translated_at is not None and message["status"] < 400:
                    record.render_seconds = time.monotonic() - translated_at
                headers = MutableHeaders(scope=message)
                headers[ID_HEADER] = record.request_id
                if record.pivot != "-":
                    headers[PIVOT_HEADER] = record.pivot
                if record.warnings != "-":
                    headers[WARNINGS_HEADER] = record.warnings
            else:
                record.num_bytes_sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        finally:
            record.refusal = scope.get(REFUSAL, "-")
            record.route = self._route(scope)
            record.seconds = time.monotonic() - started
            write_line(record)
            self._count(record)

    def _route(self, scope: Scope) -> str:
        """The route that matched, or would have if the request had not been refused before."""
        route = scope.get("route")
        if route is None and REFUSAL in scope:
            matching = (each for each in self._routes if each.matches(scope)[0] is Match.FULL)
            route = next(matching, None)
        path: str = getattr(route, "path", "-")
        return path


class ServerErrorMiddleware:
    """Answers 500 for what nobody caught: logged in full, told in one sentence.

    Inside of RequestLog, and of all that adds to answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            record: RequestRecord = scope["dragoman.record"]
            _log_fault(record, error)
            if record.status is not None:
                raise  # half an answer is out: only closing the connection can tell
            await error_response(scope, error)(scope, receive, send)


def _log_fault(record: RequestRecord, error: Exception) -> None:
    # Not logger.exception: an error's message may quote the text it failed on.
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s failed: %s\n%s", record.request_id, describe(error), frames)
