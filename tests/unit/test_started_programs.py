"""Programs that tests start as processes of their own, which no collection imports."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize("program", ["crashing_service", "stalling_service"])
def test_a_program_of_the_fault_tests_can_be_imported(program: str) -> None:
    """A name in the product changed -> told here, not by every kill test after ten minutes."""
    assert importlib.import_module(f"tests.faults.{program}")
