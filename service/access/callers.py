"""Who sent a request and what they may do: noted on it by the guard, asked for by routes."""

import functools
import ipaddress
from dataclasses import dataclass

from fastapi import Request

from service.access.keys import Key, Scope
from service.access.quotas import QuotaCharge, RateCharge
from service.errors import KeyRefused

_NOTE = "dragoman.caller"


@dataclass
class Caller:
    """Somebody with a key, or an address where the service is open to all."""

    address: str
    key: Key | None = None
    expense: QuotaCharge | None = None  # what this request took from the key's quotas
    fare: RateCharge | None = None  # what it took from the rate

    @property
    def name(self) -> str:
        """Under which texts are counted."""
        return f"address {self.address}" if self.key is None else f"key {self.key.name}"


def caller_of(request: Request) -> Caller:
    """Who sent the request."""
    caller = request.scope[_NOTE]
    assert isinstance(caller, Caller)
    return caller


def note_caller(request: Request, caller: Caller) -> None:
    """For the guard alone."""
    request.scope[_NOTE] = caller


def require(request: Request, scope: Scope) -> None:
    """Raises KeyRefused unless the request came with a key of this scope.

    Without a keys file anybody may translate and read metrics, and nobody is an admin.
    """
    key = caller_of(request).key
    if key is None:
        if scope is Scope.ADMIN:
            raise KeyRefused(
                "this needs a key with the scope admin, and the service has no keys; "
                "set DRAGOMAN_KEYS_FILE"
            )
    elif scope not in key.scopes:
        raise scope_missing(scope)


def scope_missing(scope: Scope) -> KeyRefused:
    """The refusal of a key that is right, but not for this."""
    return KeyRefused(
        f"the key may not do this: it lacks the scope {scope}; the service's operator makes one "
        f"that has it with `dragoman keys add FILE NAME --scope {scope}`"
    )


_CLIENT_BITS = 64  # of an IPv6 address; the rest is the client's own to choose


@functools.lru_cache(maxsize=1024)
def client_of(address: str | None) -> str:
    """The name under which a client is counted; one for all whose address is not known."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "-"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    network = ipaddress.IPv6Network((parsed, _CLIENT_BITS), strict=False)
    return str(network)
