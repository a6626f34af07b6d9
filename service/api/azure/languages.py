"""Azure's lists of languages: entries, names in the client's language, and ETags for caching."""

import hashlib
import json
import re
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from service.api.multilingual import MultilingualTranslator
from service.errors import InvalidRequest
from service.text.languages import is_right_to_left, language_name

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


def all_languages(
    multilingual: MultilingualTranslator, request: Request
) -> dict[str, dict[str, Any]]:
    """The served languages by code, named in the first language of `Accept-Language`."""
    first, _, _ = request.headers.get("accept-language", "").partition(",")
    wanted = first.partition(";")[0].strip()
    in_language = wanted if _LANGUAGE_TAG.fullmatch(wanted) else "en"
    return {
        code: {
            "name": language_name(code, in_language),
            "nativeName": language_name(code, code),
            "dir": "rtl" if is_right_to_left(code) else "ltr",
        }
        for code in multilingual.served().by_language
    }


def in_scope(groups: dict[str, Any], scope: str | None) -> dict[str, Any]:
    """The groups that `scope` lists, separated by commas; all groups if it is None."""
    if scope is None:
        return groups
    names = [name.strip().lower() for name in scope.split(",")]
    if not set(names) <= groups.keys():
        raise InvalidRequest(f"scope has an unknown value; use: {', '.join(groups)}", field="scope")
    return {name: group for name, group in groups.items() if name in names}


def unless_known(request: Request, content: dict[str, Any]) -> Response:
    """The answer with an ETag, or 304 without a body if the client already has this answer.

    Raises HTTPException 412 if the client sends `If-Match` with another answer's ETag.
    """
    body = json.dumps(content, ensure_ascii=False).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": etag, "Vary": "Accept-Language"}
    known, wanted = request.headers.get("if-none-match"), request.headers.get("if-match")
    if known is not None and _is_among(etag, known):
        return Response(status_code=304, headers=headers)
    if wanted is not None and not _is_among(etag, wanted):
        raise HTTPException(412, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _is_among(etag: str, listed: str) -> bool:
    return listed.strip() == "*" or etag in listed
