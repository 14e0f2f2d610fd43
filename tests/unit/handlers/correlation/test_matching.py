"""Whose message is it: the table of handlers/correlation/matching.py."""

import dataclasses
from datetime import timedelta

import pytest

from handlers.case import Case
from handlers.correlation.matching import Signal, companion, find, find_only, find_proven
from handlers.notification import Operation, Phase, Source
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    INSTANCE,
    NOW,
    REQUEST,
    VOLUME,
    known,
    told,
)

NAMED = Signal("m-1", Source.CINDER, Operation.ATTACH, Phase.END, VOLUME, None, None, ())

BY_ATTACHMENT = dataclasses.replace(NAMED, attachment_id=ATTACHMENT)
BY_REQUEST = dataclasses.replace(NAMED, request_ids=(REQUEST,))
BY_INSTANCE = dataclasses.replace(NAMED, instance_id=INSTANCE)

SAME = [
    pytest.param(BY_ATTACHMENT, known(), True, id="equal attachments -> proven"),
    pytest.param(
        dataclasses.replace(BY_ATTACHMENT, instance_id="inst-2"),
        known(),
        True,
        id="equal attachments, instances that differ -> proven: the attachment decides alone",
    ),
    pytest.param(BY_REQUEST, known(), True, id="the same request -> proven"),
    pytest.param(
        dataclasses.replace(BY_REQUEST, attachment_id="att-2"),
        known(attachment_id=None),
        True,
        id="the same request, the case knows no attachment -> proven",
    ),
    pytest.param(
        dataclasses.replace(BY_INSTANCE, request_ids=("req-2",)),
        known(),
        False,
        id="the same instance, another request -> likely, not proven",
    ),
]

OTHER = [
    pytest.param(
        dataclasses.replace(BY_REQUEST, attachment_id="att-2", instance_id=INSTANCE),
        known(),
        id="another attachment -> not this case, whatever else agrees",
    ),
    pytest.param(
        dataclasses.replace(BY_REQUEST, instance_id="inst-2"),
        known(),
        id="the same request (an orchestrator's) but another instance -> not this case",
    ),
    pytest.param(
        dataclasses.replace(BY_ATTACHMENT, volume_id="vol-2"), known(), id="another volume -> no"
    ),
    pytest.param(
        BY_ATTACHMENT, known(operation=Operation.DETACH), id="another operation -> not this case"
    ),
    pytest.param(
        dataclasses.replace(NAMED, attachment_id="att-2"),
        known(attachment_id=None),
        id="names an attachment, the case knows none and nothing else agrees -> not this case",
    ),
    pytest.param(NAMED, known(), id="names nothing, the only case -> not for that reason alone"),
]


@pytest.mark.parametrize(("signal", "case", "proven"), SAME)
def test_finds(signal: Signal, case: Case, proven: bool) -> None:
    """A message about the case -> it is found, proven or not as the table says."""
    found = find(signal, Operation.ATTACH, [case])
    assert found is not None
    assert (found.case, found.proven) == (case, proven)


@pytest.mark.parametrize(("signal", "case"), OTHER)
def test_finds_nothing(signal: Signal, case: Case) -> None:
    """A message about something else -> no case, whatever else agrees."""
    assert find(signal, Operation.ATTACH, [case]) is None


def test_ambiguous_request() -> None:
    """One request in two cases -> the newer one, and nothing is proven."""
    older = known(case_id="old", attachment_id=None, instance_id=None)
    newer = dataclasses.replace(older, case_id="new", opened_at=NOW + timedelta(seconds=1))
    found = find(BY_REQUEST, Operation.ATTACH, [older, newer])
    assert found is not None
    assert (found.case.case_id, found.proven) == ("new", False)


def test_only_case() -> None:
    """A message that names nothing -> perhaps about the only case; of two, about neither."""
    other, detach = known(case_id="case-2"), known(operation=Operation.DETACH)
    assert find_only(NAMED, Operation.ATTACH, [known(), detach]) == known()
    assert find_only(NAMED, Operation.ATTACH, [known(), other]) is None
    assert find_only(BY_INSTANCE, Operation.ATTACH, [known(instance_id=None)]) is None


def test_attachment_first() -> None:
    """An attachment and a request that point to two cases -> the attachment's."""
    by_request = known(case_id="by-request", attachment_id=None)
    signal = dataclasses.replace(BY_ATTACHMENT, request_ids=(REQUEST,))
    found = find(signal, Operation.ATTACH, [known(request_ids=()), by_request])
    assert found is not None
    assert found.case.case_id == "case-1"


def test_companion() -> None:
    """A detach in the request that released a row unasked -> its attach case, no other."""
    signal = dataclasses.replace(BY_REQUEST, operation=Operation.DETACH)
    case = known(released_unasked=True)
    assert companion(signal, [case]) == case
    assert companion(signal, [known()]) is None, "without UC5's signature"
    assert companion(BY_REQUEST, [case]) is None, "an attach's message"


def test_find_proven() -> None:
    """Only proof is asked for, only the instance agrees -> nothing."""
    assert find_proven(BY_INSTANCE, Operation.ATTACH, [known()]) is None


def test_signal_request_ids() -> None:
    """Shared and own request id -> each once, the shared one first."""
    both = Signal.of(told(request_id="req-shared", own_request_id="req-own"))
    same = Signal.of(told(request_id="req-own", own_request_id="req-own"))
    assert both.request_ids == ("req-shared", "req-own")
    assert same.request_ids == ("req-own",)
