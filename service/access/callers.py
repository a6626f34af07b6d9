"""Who sent a request, and what it may do."""

import functools
import ipaddress
from dataclasses import dataclass

from service.access.keys import Key, Scope
from service.access.quotas import QuotaCharge, RateCharge
from service.errors import KeyRefused

_CLIENT_BITS = 64  # of an IPv6 address; a client may choose the others as it likes


@dataclass
class Caller:
    """A client with a key, or an address where the service needs no keys."""

    address: str
    key: Key | None = None
    quota_charge: QuotaCharge | None = None  # what this request took from the key's quotas
    rate_charge: RateCharge | None = None  # what it took from the rate

    @property
    def name(self) -> str:
        """The name under which texts are counted."""
        return f"address {self.address}" if self.key is None else f"key {self.key.name}"


def require(caller: Caller, scope: Scope) -> None:
    """Raises KeyRefused unless the caller has a key of this scope.

    Without a keys file every client may translate and read metrics, and none is an admin.
    """
    if caller.key is None:
        if scope is Scope.ADMIN:
            raise KeyRefused(
                "this needs a key with the scope admin, and the service has no keys; "
                "set DRAGOMAN_KEYS_FILE"
            )
    elif scope not in caller.key.scopes:
        raise scope_missing(scope)


def scope_missing(scope: Scope) -> KeyRefused:
    """The refusal of a valid key that lacks a scope."""
    return KeyRefused(
        f"the key lacks the scope {scope}; the operator of the service makes a key that has it "
        f"with `dragoman keys add FILE NAME --scope {scope}`"
    )


@functools.lru_cache(maxsize=1024)
def client_of(address: str | None) -> str:
    """The name under which a client's texts are counted; "-" for all whose address is unknown."""
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
