"""Which web pages and browser extensions may read our answers (CORS), where the service allows any.

Outside of the guard: a browser asks first, by a preflight, and sends no key with that. Never with
credentials: who may translate is decided by keys, and no cookie means anything here.
"""

from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from service.protocol.dialects import NATIVE, REFUSAL
from service.protocol.error_table import Refusal
from service.request_record import ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER

# Of an answer's headers a page may read but few unless told so.
_READABLE = (ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER, "ETag", "Retry-After", "X-Metered-Usage")


_OF_BODIES = {"content-length", "content-type"}
_METHODS = ("GET", "HEAD", "POST")


class _CrossOrigin(CORSMiddleware):
    """starlette's, which refuses preflights in plain text and unseen.

    Here in the native shape, whichever API the page wants to speak: its client is not asked.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        asks_first = "origin" in headers and "access-control-request-method" in headers
        if not asks_first or scope["method"] != "OPTIONS":
            await super().__call__(scope, receive, send)
            return
        response = self.preflight_response(headers)
        if response.status_code >= 400:
            refusal = self._refusal(headers, response.status_code)
            scope[REFUSAL] = refusal.code
            kept = {name: each for name, each in response.headers.items() if name not in _OF_BODIES}
            response = JSONResponse(NATIVE.body(refusal), refusal.status, kept)
        await response(scope, receive, send)

    def _refusal(self, headers: Headers, status: int) -> Refusal:
        reasons = []
        if not self.is_allowed_origin(headers["origin"]):
            reasons.append("pages of this origin may not use the service (DRAGOMAN_CORS_ORIGINS)")
        if headers["access-control-request-method"] not in self.allow_methods:
            reasons.append(f"pages may use the methods {', '.join(self.allow_methods)}")
        return Refusal(status, "cross_origin_refused", "; ".join(reasons))


def allow_origins(app: Starlette, origins: str) -> None:
    """Lets these read what comes from the application and the middleware added so far.

    `origins` is a list with commas, or `*` for all.
    """
    app.add_middleware(
        _CrossOrigin,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=_METHODS,
        allow_headers=("*",),  # each API has its own for keys, and clients have theirs for ids
        allow_credentials=False,
        allow_private_network=True,  # where else would it run; the list says who may
        expose_headers=_READABLE,
    )
