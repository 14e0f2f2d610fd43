"""The hands: one step of a plan becomes one call outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import assert_never

from drivers.base import Connector, StorageDriver, VolumeRef
from drivers.control_plane import Cinder, Nova
from drivers.errors import PermanentError
from handlers.case import StepKind
from handlers.judgement.plan import Step


@dataclasses.dataclass(frozen=True, slots=True)
class Hands:
    """What may be acted on."""

    cinder: Cinder
    nova: Nova
    driver_of: Callable[[str], StorageDriver]

    def make(self, step: Step, ref: VolumeRef, *, request_id: str, timeout_seconds: float) -> None:
        """Make the call of ``step``. Blocks for at most ``timeout_seconds``.

        Raises the kinds of ``drivers.errors``. Repeating it does no harm: that is each call's own
        contract.
        """
        if step.kind is StepKind.BACKEND_FORCE_DETACH:
            self.driver_of(ref.backend).force_detach(
                ref, step.attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )
        elif step.kind is StepKind.NOVA_DETACH:
            self.nova.detach(
                _known(step.attachment.instance_id, "instance"),
                ref.volume_id,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            )
        else:
            self._ask_cinder(step, request_id, timeout_seconds)

    def _ask_cinder(self, step: Step, request_id: str, timeout_seconds: float) -> None:
        cinder, on, limit = self.cinder, step.attachment, timeout_seconds
        match step.kind:
            case StepKind.CINDER_RESERVE:
                cinder.reserve(on.volume_id, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_UNRESERVE:
                cinder.unreserve(on.volume_id, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_ROLL_DETACHING:
                cinder.roll_detaching(on.volume_id, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_COMPLETE:
                row = _known(on.attachment_id, "attachment")
                cinder.complete(row, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_DELETE_ATTACHMENT:
                row = _known(on.attachment_id, "attachment")
                cinder.delete_attachment(row, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_FORCE_DETACH:
                cinder.force_detach(
                    on.volume_id,
                    on.attachment_id,
                    _connector(on.connector),
                    request_id=request_id,
                    timeout_seconds=limit,
                )
            case StepKind.BACKEND_FORCE_DETACH | StepKind.NOVA_DETACH:
                raise AssertionError(f"{step.kind} is not Cinder's")
            case _:
                assert_never(step.kind)


def _known(value: str | None, what: str) -> str:
    if value is None:
        raise PermanentError(f"no {what} is known for this step")
    return value


def _connector(connector: Connector | None) -> Connector:
    if connector is None:
        raise PermanentError("no connector is known for this step")
    return connector
