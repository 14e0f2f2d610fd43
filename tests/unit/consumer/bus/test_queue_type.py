"""Which type of queue is asked for, and by which arguments, without a broker."""

from __future__ import annotations

import pytest

from consumer.bus.queue_type import (
    HIGH_LIMIT,
    QueueType,
    TypeChoice,
    choose,
    default_choice,
    forms,
    type_in,
)


@pytest.mark.parametrize(
    ("option", "quorum_queues", "hosts", "wanted", "why"),
    [
        pytest.param("classic", True, 3, "classic", "queue_type", id="the option wins"),
        pytest.param("quorum", False, 1, "quorum", "queue_type", id="the option, one host"),
        pytest.param(None, True, 1, "quorum", "rabbit_quorum_queue", id="as Nova and Cinder"),
        pytest.param(None, False, 3, "quorum", "names 3 hosts", id="several hosts -> a cluster"),
        pytest.param(None, False, 1, None, "virtual host", id="nothing said -> the broker decides"),
    ],
)
def test_what_is_asked_for(
    option: str | None, quorum_queues: bool, hosts: int, wanted: str | None, why: str
) -> None:
    """Options and hosts -> a type and its reason; only an option insists on it."""
    choice = choose(option, quorum_queues=quorum_queues, hosts=hosts)
    assert choice.wanted is (None if wanted is None else QueueType(wanted))
    assert why in choice.why
    assert choice.insisted is (option is not None or quorum_queues)


@pytest.mark.parametrize(
    ("version", "limits"),
    [
        pytest.param((3, 8, 34), [HIGH_LIMIT], id="3.x reads -1 as 0 -> a limit never reached"),
        pytest.param((3, 13, 7), [HIGH_LIMIT], id="the last of 3.x -> the same"),
        pytest.param((4, 0, 5), [-1, HIGH_LIMIT], id="4.x -> none, or what 3.x had made"),
        pytest.param((4, 3, 0), [-1, HIGH_LIMIT], id="4.3 -> the same"),
    ],
)
def test_no_limit_of_deliveries(version: tuple[int, ...], limits: list[int]) -> None:
    """A version of RabbitMQ -> the arguments by which it drops nothing for its deliveries."""
    choice = TypeChoice(QueueType.QUORUM, "for the test")
    found = [dict(form.arguments) for form in forms(choice, version, None)]
    assert [f.get("x-delivery-limit") for f in found] == [*limits, None]
    assert found[-1] == {"x-queue-type": "classic"}


def test_another_broker_has_classic_queues() -> None:
    """Not RabbitMQ, as kombu's memory transport -> classic, and nothing only RabbitMQ knows."""
    assert [form.type for form in forms(TypeChoice(), None, 3)] == [QueueType.CLASSIC]


@pytest.mark.parametrize(
    ("refusal", "wanted", "why"),
    [
        pytest.param(None, None, "default", id="accepted -> the default, or a classic one exists"),
        pytest.param(
            "invalid arg 'x-delivery-limit' for queue 'a' of queue type rabbit_classic_queue",
            QueueType.CLASSIC,
            "one host",
            id="a new queue would be classic -> classic",
        ),
        pytest.param(
            "inequivalent arg 'x-queue-type' for queue 'a': received 'quorum' but current is "
            "'classic'",
            QueueType.QUORUM,
            "is quorum",
            id="quorum was received, from the default -> quorum",
        ),
        pytest.param(
            "inequivalent arg 'x-max-length' for queue 'a': current is none",
            None,
            "exists",
            id="it exists otherwise -> not known",
        ),
    ],
)
def test_what_the_broker_says_of_its_default(
    refusal: str | None, wanted: QueueType | None, why: str
) -> None:
    """Its answer to a declaration without a type -> the type that its default asks for."""
    choice = default_choice(refusal)
    assert choice.wanted is wanted
    assert why in choice.why
    assert not choice.insisted


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        pytest.param("received 'classic' but current is 'quorum'", "quorum", id="3.10, a default"),
        pytest.param(
            "received the value 'quorum' of type 'longstr' but current is none",
            "classic",
            id="3.10, none named",
        ),
        pytest.param(
            "received the value 'classic' of type 'longstr' but current is the value 'quorum' of "
            "type 'longstr'",
            "quorum",
            id="3.9",
        ),
    ],
)
def test_the_brokers_words_name_the_type(current: str, expected: str) -> None:
    """The refusal of another type, as RabbitMQ words it -> the type that the queue has."""
    said = f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'a': {current}"
    assert type_in(said) is QueueType(expected)


def test_other_words_name_no_type() -> None:
    """The refusal of another bound -> no type."""
    assert type_in("inequivalent arg 'x-max-length' for queue 'a': current is none") is None
