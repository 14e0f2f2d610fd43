"""The error of a configuration that is not valid. Every part of the process may raise it."""

from __future__ import annotations

from collections.abc import Iterable


class ConfigurationError(Exception):
    """The configuration is not valid; each problem is a sentence that names the cause."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
