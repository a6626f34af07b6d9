"""Which web pages and browser extensions may read the answers (CORS), where any may.

Outside of authentication: a browser asks first, by a preflight request, and sends no key with it.
Never with credentials: keys decide who may translate, and cookies mean nothing here.
"""

from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.protocol.dialects import Dialect
from service.protocol.error_table import Refusal
from service.request_context import ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER, context_of

# A page may read few headers of an answer that are not listed here.
_READABLE = (ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER, "ETag", "Retry-After", "X-Metered-Usage")

_BODY_HEADERS = {"content-length", "content-type"}
_METHODS = ("GET", "HEAD", "POST")


class _CrossOrigin(CORSMiddleware):
    """starlette's CORS, except that a refused preflight is an error as any other.

    In the dialect of /v1, whichever API the page is about to use: its client does not see it.
    """

    def __init__(self, app: ASGIApp, *, dialect: Dialect, origins: str) -> None:
        super().__init__(
            app,
            allow_origins=[origin.strip() for origin in origins.split(",")],
            allow_methods=_METHODS,
            allow_headers=("*",),  # each API has its own for keys, and clients have theirs for ids
            allow_credentials=False,
            allow_private_network=True,  # most services run in one; the origins say who may
            expose_headers=_READABLE,
        )
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        preflight = "origin" in headers and "access-control-request-method" in headers
        if not preflight or scope["method"] != "OPTIONS":
            await super().__call__(scope, receive, send)
            return
        response = self.preflight_response(headers)
        if response.status_code >= 400:
            refusal = self._refusal(headers, response.status_code)
            context_of(scope).record.refusal = refusal.code
            kept = {
                name: value for name, value in response.headers.items() if name not in _BODY_HEADERS
            }
            response = JSONResponse(self._dialect.error_body(refusal), refusal.status, kept)
        await response(scope, receive, send)

    def _refusal(self, headers: Headers, status: int) -> Refusal:
        reasons = []
        if not self.is_allowed_origin(headers["origin"]):
            reasons.append("pages of this origin may not use the service (DRAGOMAN_CORS_ORIGINS)")
        if headers["access-control-request-method"] not in self.allow_methods:
            reasons.append(f"pages may use the methods {', '.join(self.allow_methods)}")
        return Refusal(status, "cross_origin_refused", "; ".join(reasons))


def allow_origins(app: Starlette, origins: str, dialect: Dialect) -> None:
    """Lets web pages of these origins read the answers of an application.

    `origins` is a list with commas, or `*` for all; `dialect` words what is refused.
    """
    app.add_middleware(_CrossOrigin, dialect=dialect, origins=origins)
