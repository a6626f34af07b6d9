"""Requests with keys, as clients of each API send them."""

from collections.abc import Callable
from typing import Any

import httpx

WRONG = "dgm_WRONGKEYWRONGKEY"
Send = Callable[[httpx.AsyncClient, str | None], Any]

ASKED = {"q": "good morning", "source": "en", "target": "de"}


def bearer(key: str | None, scheme: str = "Bearer") -> dict[str, str]:
    return {} if key is None else {"Authorization": f"{scheme} {key}"}


def given(name: str, key: str | None) -> dict[str, str]:
    return {} if key is None else {name: key}


NATIVE = {"text": "good morning", "source": "en", "target": "de"}
DEEPL = {"text": ["good morning"], "target_lang": "DE"}
GOOGLE = "/language/translate/v2"
# Every place where a client of each API may put its key, and what it gets for none and a wrong one.
PLACES: dict[str, tuple[Send, int, int]] = {
    "native": (lambda c, k: c.post("/v1/translate", json=NATIVE, headers=bearer(k)), 401, 403),
    "native x": (
        lambda c, k: c.post("/v1/translate", json=NATIVE, headers=given("X-API-Key", k)), 401, 403,
    ),
    "native score": (
        lambda c, k: c.post(
            "/v1/score",
            json={"source": "en", "target": "de", "pairs": [{"source": "a", "target": "b"}]},
            headers=bearer(k, "bEaReR "),
        ), 401, 403,
    ),
    "native models": (lambda c, k: c.get("/v1/models", headers=bearer(k)), 401, 403),
    "libre json": (lambda c, k: c.post("/translate", json={**ASKED, "api_key": k}), 403, 403),
    "libre npm": (lambda c, k: c.post("/translate", json={**ASKED, "apiKey": k}), 403, 403),
    "libre form": (
        lambda c, k: c.post("/translate", data={**ASKED, **given("api_key", k)}), 403, 403,
    ),
    "libre multipart": (
        lambda c, k: c.post(
            "/translate", files={n: (None, v) for n, v in {**ASKED, "api_key": k or ""}.items()}
        ), 403, 403,
    ),
    "libre query": (
        lambda c, k: c.post("/translate", params={**ASKED, **given("api_key", k)}), 403, 403,
    ),
    "libre bearer": (lambda c, k: c.post("/translate", json=ASKED, headers=bearer(k)), 403, 403),
    "libre detect": (lambda c, k: c.post("/detect", json={"q": "a", "api_key": k}), 403, 403),
    "deepl": (
        lambda c, k: c.post("/v2/translate", json=DEEPL, headers=bearer(k, "DeepL-Auth-Key")),
        403, 403,
    ),
    "deepl usage": (
        lambda c, k: c.get("/v2/usage", headers=bearer(k, "DeepL-Auth-Key")), 403, 403,
    ),
    "google bearer": (
        lambda c, k: c.post(GOOGLE, json={"q": "a b", "target": "de"}, headers=bearer(k)), 403, 403,
    ),
    "google header": (
        lambda c, k: c.post(
            GOOGLE, json={"q": "a b", "target": "de"}, headers=given("X-Goog-Api-Key", k)
        ), 403, 403,
    ),
    "google query": (
        lambda c, k: c.get(f"{GOOGLE}/languages", params=given("key", k)), 403, 403,
    ),
    "google form": (
        lambda c, k: c.post(GOOGLE, data={"q": "a b", "target": "de", **given("key", k)}), 403, 403,
    ),
    "apertium": (
        lambda c, k: c.get(
            "/translate", params={"q": "a b", "langpair": "en|de", **given("key", k)}
        ), 403, 403,
    ),
}  # fmt: skip
