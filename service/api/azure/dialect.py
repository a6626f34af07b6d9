"""Recognises the requests of both versions of Azure's API, and formats their errors."""

from http import HTTPStatus

from starlette.types import Scope

from service.protocol.dialects import COMPATIBLE_STATUSES, Dialect, KeyPlaces, query_of
from service.protocol.error_table import Refusal

PREFIX = "/translator/text"
VERSION = "api-version"
VERSION_3, VERSION_2026 = "3.0", "2026-06-06"

# Other APIs use these paths too: a request for one is Azure's if its query names an api-version.
_PATHS = frozenset(
    {
        "/breaksentence",
        "/detect",
        "/dictionary/examples",
        "/dictionary/lookup",
        "/languages",
        "/translate",
        "/transliterate",
    }
)

# Azure's error codes are the status and three digits: 000, unless one of these fields is wrong.
_FIELD_CODES = {
    "api-version": 400021,
    "category": 400002,
    "from": 400035,
    "scope": 400001,
    "source": 400035,
    "target": 400036,
    "textType": 400071,
    "to": 400036,
}


def _speaks(scope: Scope) -> bool:
    path: str = scope["path"]
    if path.startswith(f"{PREFIX}/"):
        return True
    return path in _PATHS and VERSION in query_of(scope)


def _speaks_3(scope: Scope) -> bool:
    path: str = scope["path"]
    if path.startswith(f"{PREFIX}/v{VERSION_3}/"):
        return True
    return path in _PATHS and query_of(scope).get(VERSION) == VERSION_3


def _code(refusal: Refusal) -> int:
    if refusal.status != HTTPStatus.BAD_REQUEST:
        return refusal.status * 1000
    if refusal.code == "malformed_body":
        return 400074
    return _FIELD_CODES.get(refusal.field or "", 400000)


_KEYS = KeyPlaces("Ocp-Apim-Subscription-Key: KEY", "bearer", header="Ocp-Apim-Subscription-Key")
_STATUSES = {**COMPATIBLE_STATUSES, "key_missing": 401, "key_refused": 401}

AZURE_3 = Dialect(
    "Azure Translator 3.0",
    speaks=_speaks_3,
    error_body=lambda refusal: {"error": {"code": _code(refusal), "message": refusal.message}},
    keys=_KEYS,
    statuses=_STATUSES,
    translation_paths=frozenset({"/translate", f"{PREFIX}/v{VERSION_3}/translate"}),
)
# Also takes requests for versions that are not served, since AZURE_3 is matched first.
AZURE = Dialect(
    "Azure Translator 2026-06-06",
    speaks=_speaks,
    error_body=lambda refusal: {"error": {"code": str(_code(refusal)), "message": refusal.message}},
    keys=_KEYS,
    statuses=_STATUSES,
    translation_paths=frozenset({"/translate", f"{PREFIX}/v{VERSION_2026}/translate"}),
)
