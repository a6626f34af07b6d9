"""The application with fake models, for tests that compare deployment files with it."""

from tests.service.conftest import serving as serving
