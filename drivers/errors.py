"""Errors of calls outside the process, sorted by one question: may the call have acted.

Drivers and clients raise these three kinds and nothing else: surely not (transient), perhaps
(indeterminate), refused for good (permanent). Kubernetes' external-attacher asks the same of each
gRPC code (``isFinalError``).
"""

from __future__ import annotations


class OutsideError(Exception):
    """A call to Cinder, Nova or a storage backend did not succeed.

    ``str()`` of it is safe to log, store and publish: the code that raises it has removed secrets.
    """

    def __init__(self, message: str | None = None) -> None:
        # The docstring of an error is the message that an operator reads where there is no other.
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])


class TransientError(OutsideError):
    """The call surely did nothing; the same call may be made again.

    ``retry_after_seconds`` is how long the other side asked us to wait first, 0 where it did not.
    """

    def __init__(self, message: str | None = None, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class IndeterminateError(OutsideError):
    """The call may have acted, may still act later, or may not; only a fresh look can tell."""


class PermanentError(OutsideError):
    """The call was refused and will be refused again; a person has to look.

    Nothing was done. What is refused after a part of it was done is IndeterminateError.
    """


class NotFoundError(PermanentError):
    """The thing that the call names does not exist under that name."""


class ConflictError(PermanentError):
    """The other side's state does not allow the call: it changed since we looked."""
