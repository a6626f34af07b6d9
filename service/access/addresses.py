"""Which client an address stands for, where a client has no key."""

import functools
import ipaddress

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
