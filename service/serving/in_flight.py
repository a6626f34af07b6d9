"""Which requests are under way: what one of them may hold is not closed before it is over."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class InFlightRequests:
    """Requests by the age in which they began; one age ends when a model is exchanged.

    Between the choice of a model and the work that it is given lie moments in which nothing but
    the request itself knows of the choice. It is made after the request began and not used after
    its end. Touched by the event loop only.
    """

    def __init__(self) -> None:
        self._age = 0
        self._under_way: Counter[int] = Counter()

    @contextmanager
    def visit(self) -> Iterator[None]:
        """A request, from its beginning to its end."""
        age = self._age
        self._under_way[age] += 1
        try:
            yield
        finally:
            self._under_way[age] -= 1
            if not self._under_way[age]:
                del self._under_way[age]

    def end_age(self) -> int:
        """From now on requests are of a new age; the number of the old one."""
        self._age += 1
        return self._age - 1

    @property
    def num_under_way(self) -> int:
        """Requests that have begun and are not over."""
        return sum(self._under_way.values())

    def over(self, age: int) -> bool:
        """True when all requests of this age and those before it are over."""
        return all(begun > age for begun in self._under_way)
