"""ASGI middleware that answers 500 for an exception that no other code handles."""

import logging
import traceback

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import describe
from service.request_context import context_of

logger = logging.getLogger("dragoman.request")


class ServerErrorMiddleware:
    """Logs the exception in full and answers one sentence. Inside of RequestLog and CORS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            context = context_of(scope)
            # Not logger.exception: an error's message may quote the text it failed on.
            frames = "".join(traceback.format_tb(error.__traceback__))
            request_id = context.record.request_id
            logger.error("request %s failed: %s\n%s", request_id, describe(error), frames)
            if context.record.status is not None:
                raise  # half an answer is sent: only closing the connection shows the failure
            await context.error_response(error)(scope, receive, send)
