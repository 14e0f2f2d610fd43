"""Releases a volume from one initiator.

1. Access is revoked first, then the sessions are ended: an ended session cannot begin anew.
2. The release is done only when a look finds neither access nor a session of the initiator.
3. Once tgtd has changed anything, a failure is an IndeterminateError.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial

from drivers.child import Deadline
from drivers.errors import IndeterminateError, PermanentError, TransientError
from drivers.tgt.listing import Sighting, Target, in_words, open_rules, read_connections
from drivers.tgt.tgtadm import GONE_ALREADY, RefusedError, Tgtadm

# Short at first: a session ends at once, unless its I/O hangs; then it takes as long as that.
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5


class OpenAccessError(PermanentError):
    """A rule gives access by address, so no single host can be excluded by its name."""


class SharedTargetError(PermanentError):
    """Several disks are behind one target, so a host cannot be released from one of them alone."""


class AccessGivenAgainError(IndeterminateError):
    """Another client gave the initiator access again during the release."""


class StillConnectedError(IndeterminateError):
    """A session stays although it was ended, as one does whose I/O hangs in the backing store."""


@dataclasses.dataclass(slots=True)
class Release:
    """One call's work on one initiator. ``look`` sees the volume's targets as they are now.

    ``acted`` says whether tgtd has changed anything for it: from then on no failure may be a
    TransientError or PermanentError, which say that nothing was done.
    """

    tgtadm: Tgtadm
    look: Callable[[], Sighting]
    initiator: str
    deadline: Deadline
    acted: bool = False

    def run(self) -> None:
        """Release; blocks until nothing of the initiator is left, at most until the deadline."""
        try:
            self._revoke()
            self._end_sessions()
        except (TransientError, PermanentError) as error:
            if self.acted:
                raise IndeterminateError(f"Done in part, then: {error}") from error
            raise

    def _revoke(self) -> None:
        targets = self._concerned()
        # All are checked before the first is changed: a refusal means that nothing was done.
        for target in targets:
            refuse_unsafe(target)
        for target in targets:
            if self.initiator in target.rules:
                self._act(partial(self.tgtadm.unbind, target.tid, self.initiator, self.deadline))

    def _end_sessions(self) -> None:
        """End its sessions until a look finds none; what is revoked can begin no new one."""
        ended: list[Target] = []
        try:
            # Looked at after each round: a session whose login was under way is listed only now.
            for pause in _pauses():
                if not (targets := self._concerned()):
                    return
                for target in targets:
                    self._end_sessions_with(target)
                ended = targets
                time.sleep(max(min(pause, self.deadline.left_seconds), 0.0))
        except (TransientError, IndeterminateError) as error:
            # Only what stays after it was ended is told as that; anything else has its own reason.
            if not ended or isinstance(error, AccessGivenAgainError):
                raise
            raise StillConnectedError(f"{self._what_is_left(ended)} Then: {error}") from error

    def _end_sessions_with(self, target: Target) -> None:
        # Whoever gave it access again may have attached the volume anew.
        if self.initiator in target.rules or open_rules(target):
            raise AccessGivenAgainError(
                f"{self.initiator} has access to {target.name} again, and not from us: its "
                "sessions were left as they are."
            )
        # A session's numbers are worth nothing once tgtd was started anew, so they are read now.
        listed = read_connections(self.tgtadm.show_connections(target.tid, self.deadline))
        for one in (c for c in listed if c.initiator == self.initiator):
            numbers = (target.tid, one.session, one.connection)
            self._act(partial(self.tgtadm.close, *numbers, self.deadline))

    def _act(self, ask: Callable[[], None]) -> None:
        """Ask for one change; what is gone already counts as done."""
        try:
            ask()
        except RefusedError as error:
            if error.refusal not in GONE_ALREADY:
                raise
        self.acted = True

    def _concerned(self) -> list[Target]:
        """Look; return the targets that the initiator may enter or is in session with."""
        return [t for t in self.look().targets if self._may_enter(t) or self._sessions(t)]

    def _may_enter(self, target: Target) -> bool:
        return self.initiator in target.rules or bool(open_rules(target))

    def _sessions(self, target: Target) -> list[int]:
        return [n.session for n in target.nexuses if n.initiator == self.initiator]

    def _what_is_left(self, targets: list[Target]) -> str:
        left = ", ".join(f"{session} of {t.name}" for t in targets for session in self._sessions(t))
        return (
            f"{self.initiator} is out of the access list, but its session {left} stays although it "
            "was ended: I/O of it hangs in the backing store and may still be done."
        )


def refuse_unsafe(target: Target) -> None:
    """Raise where a host could not be excluded, or would lose more than the one volume. Pure."""
    # A session is with a target, not with a disk.
    if len(target.disks) > 1:
        disks = ", ".join(f"{disk.lun} ({disk.path})" for disk in target.disks)
        raise SharedTargetError(
            f"Refused, nothing done: target {target.name} has several disks, {disks}. A host has "
            "access to all of them or to none, and its session is with all of them."
        )
    if rules := open_rules(target):
        hosts = " and ".join(in_words(rule) for rule in rules)
        raise OpenAccessError(
            f"Refused, nothing done: target {target.name} gives access to {hosts}, so a released "
            "host would connect again at once. Remove that rule (tgtadm --op unbind) and give "
            "access by the names of the initiators."
        )


def _pauses() -> Iterator[float]:
    """Yield the pauses between looks, without end."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
