"""The budget of second looks."""

from __future__ import annotations

from consumer.ledger.intake.second_looks import SecondLooks


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.at


def test_budget_is_spent_and_earned_again() -> None:
    """So many a minute -> none when they are spent, one after its share of the minute, no hoard."""
    clock = Clock()
    looks = SecondLooks(6, clock)
    assert looks.spare() == 6
    looks.spend(6)
    assert looks.spare() == 0
    clock.at = 10.5
    assert looks.spare() == 1
    clock.at = 3600.0
    assert looks.spare() == 6


def test_unusual_cases_overdraw_it_only_so_far() -> None:
    """Many unusual cases -> the budget is back after two minutes at most."""
    clock = Clock()
    looks = SecondLooks(6, clock)
    looks.spend(1000)
    assert looks.spare() == 0
    clock.at = 120.0
    assert looks.spare() == 6


def test_no_budget() -> None:
    """Nothing a minute -> never one to spare."""
    clock = Clock()
    looks = SecondLooks(0, clock)
    clock.at = 3600.0
    assert looks.spare() == 0
