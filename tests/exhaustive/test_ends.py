"""The ends of a search: the sets of states that are only ever left for each other."""

from __future__ import annotations

import pytest

from tests.exhaustive.ends import ends


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ([[1], [2], []], [{2}]),
        ([[0]], [{0}]),
        ([[1], [2], [1]], [{1, 2}]),
        ([[1], [0, 2], []], [{2}]),
        ([[1, 3], [2], [1], [4], [3]], [{1, 2}, {3, 4}]),
        ([[1], [2], [0, 3], [4], [5], [3]], [{3, 4, 5}]),
    ],
    ids=["a way", "alone", "a circle", "a way out of a circle", "two circles", "into a circle"],
)
def test_an_end_is_left_only_for_itself(after: list[list[int]], found: list[set[int]]) -> None:
    """States and what follows them -> the ends, and none that has a way out."""
    assert sorted(map(sorted, ends(after))) == sorted(map(sorted, found))


def test_a_long_way_is_walked_without_recursion() -> None:
    """Ten thousand states in a row, and a circle in the end -> that circle."""
    last = 10_000
    after = [[n + 1] for n in range(last)] + [[last - 1]]
    assert list(map(sorted, ends(after))) == [[last - 1, last]]
