"""A driver's own options from a dictionary: what is accepted, what is refused, in which words."""

import pytest
from oslo_config import cfg

from drivers.registry import parsed, secrets, unset

OPTS = (
    cfg.StrOpt("portal", required=True, help="Where."),
    cfg.PortOpt("control_port", default=1, help="Which."),
    cfg.StrOpt("password", secret=True, choices=["right"], help="How."),
)


def test_values_are_parsed_and_completed() -> None:
    """Texts as a file has them -> typed values, defaults for the rest."""
    values = parsed(OPTS, {"portal": "192.0.2.7", "control_port": "7"})
    assert values == {"portal": "192.0.2.7", "control_port": 7, "password": None}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "the option portal must be set"),
        ({"portla": "x"}, "there is no option portla; there are: control_port, password, portal"),
        ({"portal": "x", "control_port": "many"}, "the option control_port: .*many"),
        ({"portal": "x", "password": "canary"}, "the option password: its value is not allowed"),
    ],
    ids=["missing", "unknown", "wrong type", "wrong secret"],
)
def test_wrong_value_is_told_with_its_option(values: dict[str, object], words: str) -> None:
    """A value that cannot be -> ValueError with the option and the cause, never a secret."""
    with pytest.raises(ValueError, match=words) as error:
        parsed(OPTS, values)
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None


def test_driver_without_options_takes_none() -> None:
    """No option declared -> an empty mapping; any value is refused."""
    assert parsed((), {}) == {}
    with pytest.raises(ValueError, match="there are: none"):
        parsed((), {"portal": "x"})


def test_declared_options_are_left_as_they_are() -> None:
    """An option is required -> it still is after it was parsed once."""
    parsed(OPTS, {"portal": "x"})
    assert unset(OPTS, {"portal": None}) == ("portal",)


def test_secrets_are_those_that_are_set() -> None:
    """Options declared secret -> their values; what is not set is none."""
    assert secrets(OPTS, {"portal": "x", "password": "hush"}) == ("hush",)
    assert secrets(OPTS, {"portal": "x", "password": None}) == ()
