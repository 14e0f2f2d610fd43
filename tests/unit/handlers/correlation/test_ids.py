"""The ids of cases."""

from __future__ import annotations

import concurrent.futures
import uuid

from handlers.correlation.transitions import new_case_id

MANY = 5_000


def test_ordered_and_told_apart_by_eight_digits() -> None:
    """Many at once -> in the order of their making, each with a beginning of its own."""
    made = [new_case_id() for _ in range(MANY)]
    assert made == sorted(made)
    assert len({case_id[:8] for case_id in made}) == MANY


def test_threads_get_different_ones() -> None:
    """Many threads -> no beginning twice."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_case_id(), range(MANY)))
    assert len({case_id[:8] for case_id in made}) == MANY


def test_is_a_uuid() -> None:
    """An id -> a UUID of the version for layouts of one's own, its end random."""
    first, second = uuid.UUID(new_case_id()), uuid.UUID(new_case_id())
    assert (first.version, first.variant) == (8, uuid.RFC_4122)
    assert first.node != second.node
