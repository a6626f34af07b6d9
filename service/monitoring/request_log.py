"""ASGI middleware that writes one log line for each request.

The line holds ids, lengths and times, never text; instead of the path it has the matched route.
"""

import logging
import time
from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.request_context import RequestRecord, context_of

logger = logging.getLogger("dragoman.request")


class RequestLog:
    """Logs and counts each request when it is finished."""

    def __init__(
        self,
        app: ASGIApp,
        count: Callable[[RequestRecord], None],
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        """`count` gets the record of every finished request; `routes`: the service's routes."""
        self.app = app
        self._count = count
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = context_of(scope)
        record = context.record
        started = time.monotonic()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.note_answer(message["status"])
            else:
                record.num_bytes_sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        finally:
            if record.route == "-":
                record.route = self._route(scope, refused=record.refusal != "-")
            record.seconds = time.monotonic() - started
            _write_line(record)
            self._count(record)

    def _route(self, scope: Scope, *, refused: bool) -> str:
        """The route that matched, or would have matched if the request had not been refused."""
        route = scope.get("route")
        if route is None and refused:
            matching = (each for each in self._routes if each.matches(scope)[0] is Match.FULL)
            route = next(matching, None)
        path: str = getattr(route, "path", "-")
        return path


def _write_line(record: RequestRecord) -> None:
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
