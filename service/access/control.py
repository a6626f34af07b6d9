"""ASGI middleware that asks for a key before anything else looks at a request.

With a keys file every path needs a key except those listed here as open, so that a new route is
closed until somebody decides otherwise. Wrong, expired and revoked keys get the same answer.
"""

from fastapi import Request

from service.access.callers import Caller, caller_of, require, scope_missing
from service.access.credentials import find_key
from service.access.keyring import Keyring
from service.access.keys import Key
from service.access.keys import Scope as KeyScope
from service.access.quotas import QuotaTracker, Usage
from service.errors import KeyMissing, KeyRefused
from service.protocol.dialects import dialect_of
from service.rates import parse_rate
from service.request_record import note_key
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
        """Raises ConfigError for files that cannot be used."""
        self._max_texts = settings.max_texts
        self._rate = settings.rate_limit
        self._keyring = None if settings.keys_file is None else Keyring(settings.keys_file)
        self._allowance = QuotaTracker(settings.usage_file)

    @property
    def needs_keys(self) -> bool:
        """True where nobody translates without a key."""
        return self._keyring is not None

    def reload(self) -> bool:
        """Reads the keys file again, now; False where it is broken and the old keys stay."""
        return self._keyring is None or self._keyring.reload()

    async def enter(self, request: Request) -> Key | None:
        """The key a request came with, None where none is needed; raises where it does not open."""
        path: str = request.scope["path"]
        if self._keyring is None or path in _OPEN or path.startswith(_OPEN_PREFIXES):
            return None
        places = dialect_of(request.scope).keys
        presented = await find_key(request, places, self._max_texts)
        if not presented:
            raise KeyMissing(f"this service wants a key; send it as {places.how}")
        key = await self._keyring.find(presented)
        if key is None:
            raise KeyRefused("the key does not open this service; ask its operator for another")
        note_key(request.scope, key.name)
        opening = _scopes_for(path)
        if not set(key.scopes) & set(opening):
            raise scope_missing(opening[0])
        return key

    def charge(self, request: Request, num_texts: int, num_characters: int) -> None:
        """Counts a request's texts and characters; raises when its caller may not send them."""
        require(request, KeyScope.TRANSLATE)
        caller = caller_of(request)
        rate = self._rate
        if caller.key is not None:
            rate = caller.key.rate or rate
            # Given back by the guard when the request fails, be it by the rate.
            caller.expense = self._allowance.take_characters(caller.key, num_characters)
        if rate is not None:
            cost = max(1, num_texts)
            caller.fare = self._allowance.take_texts(parse_rate(rate), caller.name, cost)

    def refund(self, caller: Caller, *, refused: bool) -> None:
        """Gives back the characters of a request that was not answered.

        Its texts only if it was `refused`: work on those of a client that left had begun.
        """
        if caller.expense is not None:
            self._allowance.give_back(caller.expense)
            caller.expense = None
        if refused and caller.fare is not None:
            self._allowance.give_texts_back(caller.fare)
            caller.fare = None

    def usage(self, request: Request) -> Usage | None:
        """What the request's key has used; None without a key."""
        key = caller_of(request).key
        return None if key is None else self._allowance.usage(key)

    def close(self) -> None:
        """Lets go of the files."""
        self._allowance.close()


def _scopes_for(path: str) -> tuple[KeyScope, ...]:
    """What a key must be allowed to do to come in, one of them; a route may ask for more."""
    if path == "/metrics":
        return (KeyScope.METRICS,)
    if path.startswith("/admin/"):
        return (KeyScope.ADMIN,)
    return (KeyScope.TRANSLATE, KeyScope.ADMIN)
