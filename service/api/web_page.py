"""Serves the web page at `/`: static files that call the service's APIs as any client does.

The files are read once, when the router is made. Their paths contain a hash of all files, so that
browsers can cache them for ever, and JavaScript modules only import modules of the same version.
"""

import hashlib
import html
import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from service.settings import Settings

_INDEX = "index.html"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Allows our own files only, no inline script or style, and no way to turn a string into markup:
# in browsers with Trusted Types even innerHTML throws.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # a shared link contains the text
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Comments in CSS or JavaScript that have whole lines to themselves.
_COMMENT_LINES = re.compile(r"^[ \t]*(?://.*|/\*(?:(?!\*/)[\s\S])*\*/[ \t]*)$", re.MULTILINE)

_IMMUTABLE = "public, max-age=31536000, immutable"
_REVALIDATE = "no-cache"


def page_router(settings: Settings) -> APIRouter:
    """Routes for `/` and the files it needs."""
    contents = {
        path.name: _delivered(path.name, path.read_bytes())
        for path in files("service").joinpath("page").iterdir()
        if _media_type(path.name)
    }
    version = _version(contents)
    index = _index(contents.pop(_INDEX), version, settings)
    etag = f'"{_version({_INDEX: index})}"'
    router = APIRouter(include_in_schema=False)

    @router.head("/")
    @router.get("/")
    async def page(request: Request) -> Response:
        headers = {**_HEADERS, "Cache-Control": _REVALIDATE, "ETag": etag}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(index, headers=headers, media_type=_media_type(_INDEX))

    @router.head("/page/{asked_version}/{name}")
    @router.get("/page/{asked_version}/{name}")
    async def file(asked_version: str, name: str) -> Response:
        # The name is a key of the files read at the start; it never becomes a path.
        content = contents.get(name)
        if content is None:
            raise HTTPException(404)
        # During a rolling update, a replica may get requests for files of another version.
        cache_control = _IMMUTABLE if asked_version == version else "no-store"
        headers = {**_HEADERS, "Cache-Control": cache_control}
        return Response(content, headers=headers, media_type=_media_type(name))

    return router


def _index(template: bytes, version: str, settings: Settings) -> bytes:
    """The HTML page, with the version of its files and the service's limits filled in."""
    values = {
        "version": version,
        "max_characters": str(settings.max_characters),
        "max_texts": str(settings.max_texts),
        "max_body_bytes": str(settings.max_body_bytes),
    }
    escaped = {name: html.escape(value) for name, value in values.items()}
    return Template(template.decode("utf-8")).substitute(escaped).encode("utf-8")


def _delivered(name: str, content: bytes) -> bytes:
    """The file as browsers get it: without comment lines, so that comments may be long.

    The lines are emptied, not removed: line numbers in browsers' error messages stay right.
    """
    if not name.endswith((".css", ".js")):
        return content
    text = content.decode("utf-8")
    return _COMMENT_LINES.sub(lambda match: "\n" * match[0].count("\n"), text).encode()


def _version(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(name.encode())
        digest.update(hashlib.sha256(contents[name]).digest())
    return digest.hexdigest()[:16]


def _media_type(name: str) -> str | None:
    """The type of a file that belongs to the page, None for any other."""
    return _MEDIA_TYPES.get(name[name.rfind(".") :])
