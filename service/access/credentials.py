"""Finds the API key of a request, where the clients of its API put it."""

from fastapi import Request

from service.errors import KeyRefused
from service.limits import Limits
from service.protocol.dialects import KeyPlaces
from service.protocol.fields import read_fields


async def find_key(request: Request, places: KeyPlaces, limits: Limits) -> str | None:
    """The key as it was sent; None for none. Raises for an unreadable body that may hold it."""
    for key in (_in_headers(request, places), _in_query(request, places)):
        if key:
            return key
    if not places.body or not await request.body():
        return None
    fields = await read_fields(request, limits)
    for name in places.body:
        if value := fields.get(name):
            return _checked(value)
    return None


def _in_headers(request: Request, places: KeyPlaces) -> str | None:
    scheme, _, credentials = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == places.scheme and credentials.strip():
        return credentials.strip()
    return request.headers.get(places.header, "").strip() if places.header else None


def _in_query(request: Request, places: KeyPlaces) -> str | None:
    for name in places.query:
        values = request.query_params.getlist(name)
        if any(values):
            return _checked(values[0] if len(values) == 1 else values)
    return None


def _checked(value: object) -> str:
    if not isinstance(value, str):
        raise KeyRefused("the API key is not a string, or there are several; send one")
    return value
