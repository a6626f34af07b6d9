"""The application over fakes, for what has to agree with it."""

from tests.service.conftest import serving as serving
