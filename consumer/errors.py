"""The errors that a person's input causes. Every part of the process may raise them."""

from __future__ import annotations

from collections.abc import Iterable


class BadInputError(Exception):
    """What the person typed or configured cannot be used; the text names the cause and the fix."""


class ConfigurationError(BadInputError):
    """The configuration is not valid; each problem is a sentence that names the cause."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
