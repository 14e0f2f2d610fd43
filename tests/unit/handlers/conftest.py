"""A cloud that is closed after each test."""

from collections.abc import Iterator

import pytest

from drivers.simulator import Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Return an empty cloud."""
    with Cloud() as cloud:
        yield cloud
