"""An answer as the bytes that a client gets, for what is refused before the application."""

from http import HTTPStatus

from starlette.responses import Response


def answer_bytes(response: Response, *more: tuple[bytes, bytes]) -> bytes:
    """Head and body of a response, with `more` headers behind its own."""
    fields = b"".join(b"%b: %b\r\n" % field for field in (*response.raw_headers, *more))
    phrase = HTTPStatus(response.status_code).phrase.encode("ascii")
    body = bytes(response.body)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (response.status_code, phrase, fields, body)
