"""Which web pages and browser extensions may read our answers (CORS), where the service allows any.

Outside of the guard: a browser asks first, by a preflight, and sends no key with that. Never with
credentials: who may translate is decided by keys, and no cookie means anything here.
"""

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from service.request_log import ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER

# Of an answer's headers a page may read but few unless told so.
_READABLE = (ID_HEADER, PIVOT_HEADER, WARNINGS_HEADER, "ETag", "Retry-After", "X-Metered-Usage")


def allow_origins(app: Starlette, origins: str) -> None:
    """Lets these read what comes from the application and the middleware added so far.

    `origins` is a list with commas, or `*` for all.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),  # each API has its own for keys, and clients have theirs for ids
        allow_credentials=False,
        allow_private_network=True,  # where else would it run; the list says who may
        expose_headers=_READABLE,
    )
