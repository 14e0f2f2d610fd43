"""The same sites as the integration tests have."""

from tests.integration.conftest import broker, site

__all__ = ["broker", "site"]
