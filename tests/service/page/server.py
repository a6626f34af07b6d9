"""The page served with fake models over a real socket, for a browser to open."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.app import create_app
from service.serving.registry import Registry
from service.settings import Settings
from tests.service.fakes import FakeOther, FakeSearch, FakeSegment, FakeTranslation, FakeTranslator

_TRANSLATING = ("/v1/translate", "/translate")
_GUARDED = (*_TRANSLATING, "/v1/models", "/detect")


@dataclass
class AuthenticationMiddleware:
    """Refuses requests without `key`, as long as there is one, as the service itself does."""

    app: ASGIApp
    key: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.key and scope["type"] == "http" and scope["path"] in _GUARDED:
            sent = dict(scope["headers"]).get(b"authorization", b"").decode()
            if sent != f"Bearer {self.key}":
                await _refusal(scope["path"], sent)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _refusal(path: str, sent: str) -> Response:
    if not path.startswith("/v1/"):  # LibreTranslate's clients know neither codes nor 401
        return JSONResponse({"error": "the key does not fit"}, 403)
    status, code = (403, "key_refused") if sent else (401, "key_missing")
    return JSONResponse({"error": {"code": code, "message": "the key does not fit"}}, status)


@dataclass
class Faults:
    """Answers translations with `response` instead of translating, as long as there is one."""

    app: ASGIApp
    response: Response | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.response and scope["type"] == "http" and scope["path"] in _TRANSLATING:
            await self.response(scope, receive, send)
        else:
            await self.app(scope, receive, send)


@dataclass
class PageServer:
    """Where the page is, and the handles on what happens behind it."""

    url: str
    faults: Faults
    authentication: AuthenticationMiddleware
    translators: dict[str, FakeTranslator] = field(default_factory=dict)


@contextlib.contextmanager
def serve(registry: Registry, settings: Settings, *, wait: bool = True) -> Iterator[PageServer]:
    """Serves `registry` until the block ends."""
    faults = Faults(create_app(registry, settings).asgi)
    authentication = AuthenticationMiddleware(faults)
    server = uvicorn.Server(uvicorn.Config(authentication, log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        while not server.started or (wait and registry.loading):
            time.sleep(0.001)
        yield PageServer(f"http://127.0.0.1:{listener.getsockname()[1]}/", faults, authentication)
        server.should_exit = True
        server.force_exit = True  # a browser keeps its connections open
        thread.join(10)
        assert not thread.is_alive(), "the server does not end, and the tests would not either"


def word_by_word(text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
    """Upper case, in which word n comes from word n alone; the model doubts the word RARE."""
    return _answer(text, text.upper(), search, alignments)


def echo(text: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
    """The text itself, so that what is typed is also what comes back."""
    return _answer(text, text, search, alignments)


def _answer(text: str, output: str, search: FakeSearch, alignments: bool) -> FakeTranslation:
    source, target = text.strip(), output.strip()
    pieces = tuple(f"▁{word}" for word in source.split())
    target_pieces = tuple(f"▁{word}" for word in target.split())
    segment = FakeSegment(
        source=source,
        text=target,
        score=-1.0,
        source_pieces=pieces,
        target_pieces=target_pieces,
        token_log_probs=tuple(-3.0 if "RARE" in piece else -0.1 for piece in (*target_pieces, "")),
        alignment=_diagonal(len(pieces) + 1) if alignments else None,
    )
    return FakeTranslation(
        text=output,
        score=-1.0,
        log_prob=-1.0,
        alternatives=tuple(
            FakeOther(f"{output} ({rank})", -2.0, -3.0) for rank in range(1, search.n_best)
        ),
        segments=(segment,) if pieces else (),
        source_tokens=len(pieces),
        target_tokens=len(pieces),
    )


def _diagonal(size: int) -> list[list[float]]:
    return [[float(row == column) for column in range(size)] for row in range(size)]
