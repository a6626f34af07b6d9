"""Decides which requests may enter the service, and counts what their callers use.

With a keys file every path needs a key except those listed here, so a new route is closed until it
is listed. A wrong, an expired and a revoked key get the same answer.
"""

from fastapi import Request

from service.access.callers import Caller, require, scope_missing
from service.access.credentials import find_key
from service.access.keyring import Keyring
from service.access.keys import Key, Scope
from service.access.quotas import QuotaTracker, Usage
from service.errors import KeyMissing, KeyRefused
from service.limits import Limits
from service.protocol.dialects import KeyPlaces
from service.rates import parse_rate
from service.settings import Settings

# Health, the page and its files, the documentation, and what clients ask before they have a key.
_OPEN = frozenset(
    {
        "/",
        "/docs",
        "/openapi.json",
        "/health",
        "/health/live",
        "/health/ready",
        "/languages",
        "/listPairs",
        "/frontend/settings",
    }
)
_OPEN_PREFIXES = ("/page/", "/static-offline-docs/")


class AccessControl:
    """Keys, rates and quotas of one service."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a keys file or usage file that cannot be used."""
        self._limits = Limits(settings)
        self._rate = settings.rate_limit
        self._keyring = None if settings.keys_file is None else Keyring(settings.keys_file)
        self._quotas = QuotaTracker(settings.usage_file)

    @property
    def needs_keys(self) -> bool:
        """True where a request to translate needs a key."""
        return self._keyring is not None

    async def authenticate(self, request: Request, places: KeyPlaces) -> Key | None:
        """The key that came with a request; None where the request needs none.

        `places`: where the clients of the request's API put their key.
        Raises KeyMissing, KeyRefused, or what makes a body unreadable in which a key may be.
        """
        path: str = request.scope["path"]
        if self._keyring is None or path in _OPEN or path.startswith(_OPEN_PREFIXES):
            return None
        presented = await find_key(request, places, self._limits)
        if not presented:
            raise KeyMissing(f"the service needs an API key; send it as {places.how}")
        key = await self._keyring.find(presented)
        if key is None:
            raise KeyRefused("the API key is not valid; ask the operator of the service for one")
        opening = _scopes_for(path)
        if not set(key.scopes) & set(opening):
            raise scope_missing(opening[0])
        return key

    def charge(self, caller: Caller, num_texts: int, num_characters: int) -> None:
        """Counts a request's texts and characters.

        Raises KeyRefused, QuotaExceeded, RateLimited or RequestTooLarge.
        """
        require(caller, Scope.TRANSLATE)
        rate = self._rate
        if caller.key is not None:
            rate = caller.key.rate or rate
            # `refund` returns it when the request fails, be it at the rate limit below.
            caller.quota_charge = self._quotas.take_characters(caller.key, num_characters)
        if rate is not None:
            num_texts = max(1, num_texts)
            caller.rate_charge = self._quotas.take_texts(parse_rate(rate), caller.name, num_texts)

    def refund(self, caller: Caller, *, refused: bool) -> None:
        """Returns the characters of a request that was not answered with translations.

        Returns its texts only if it was `refused`: when a client disconnects, work on its texts
        may have begun.
        """
        if caller.quota_charge is not None:
            self._quotas.return_characters(caller.quota_charge)
            caller.quota_charge = None
        if refused and caller.rate_charge is not None:
            self._quotas.return_texts(caller.rate_charge)
            caller.rate_charge = None

    def usage(self, caller: Caller) -> Usage | None:
        """What the caller's key has used; None without a key."""
        return None if caller.key is None else self._quotas.usage(caller.key)

    def close(self) -> None:
        """Closes the files."""
        self._quotas.close()


def _scopes_for(path: str) -> tuple[Scope, ...]:
    """The scopes of which a key needs one for this path; a route may require a certain one."""
    if path == "/metrics":
        return (Scope.METRICS,)
    if path.startswith("/admin/"):
        return (Scope.ADMIN,)
    return (Scope.TRANSLATE, Scope.ADMIN)
