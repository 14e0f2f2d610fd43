"""detachd's running service on the lab: real Cinder, Nova and Keystone, through their own bus."""

import pytest

pytest.register_assert_rewrite("tests.lab_service.playing", "tests.lab_service.stage")
