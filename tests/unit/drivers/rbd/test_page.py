"""The page of the driver says what the tests' cluster gives: a user who follows it has enough."""

from pathlib import Path

from tests.services.ceph import KEYS

PAGE = Path(__file__).parents[4] / "docs" / "drivers-rbd.md"


def test_rights_of_the_page_are_those_of_the_tests() -> None:
    """The documented command -> the same rights that detachd's key has in the tests."""
    text = " ".join(PAGE.read_text().split())
    for service, rights in KEYS["client.detachd"].items():
        assert f"{service} '{rights}'" in text
