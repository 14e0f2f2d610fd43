"""A ledger that has seen a million cases, beside one that has seen a thousand."""

import os
import sys

import pytest

from tests.benchmarks.ledger_scale import report, scale

FINISHED = int(os.environ.get("DETACHD_FINISHED_CASES", "1000000"))
MOST_RATIO = 1.3


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_as_quick_as_when_it_was_young(kind: str) -> None:
    """A million finished cases -> accept, claim and count at most 1.3 times slower than before."""
    few, many, ratio = scale(kind, FINISHED)
    sys.stdout.write(f"\n{report(kind, few, many, ratio)}\n")
    assert ratio.accept <= MOST_RATIO
    assert ratio.claim <= MOST_RATIO
    assert ratio.count <= MOST_RATIO
