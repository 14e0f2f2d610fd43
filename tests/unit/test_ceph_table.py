"""The page of the driver says of each scene what the lab's test expects of it."""

from __future__ import annotations

from pathlib import Path

from tests.lab_service import ceph_scenes

PAGE = Path(__file__).parents[2] / "docs" / "drivers-rbd.md"


def test_table_of_the_page_is_that_of_the_scenes() -> None:
    """A scene or its outcome changes -> the table has to be changed too, to this text."""
    assert ceph_scenes.table() in PAGE.read_text(), ceph_scenes.table()
