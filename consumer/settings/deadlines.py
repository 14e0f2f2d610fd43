"""How long a start waits for its end, derived from how long Nova and Cinder themselves try.

Cinder gives up a call after its RPC timeout and answers 500. Nova then repeats it, five times in
all, while the call before may still be at work; when an attach has failed Nova cleans up, which may
take five tries more (nova/volume/cinder.py, the retries of attachment_update and
attachment_delete). A detach has no clean-up, but waits for its guest first. Silence within that
time says nothing: the last try may succeed. Half as much again is for what is slower than that.
"""

from __future__ import annotations

from oslo_config import cfg

from handlers.notification import Operation

NOVA_TRIES = 10
DEFAULT_RPC_TIMEOUTS = NOVA_TRIES * 3 // 2


def options() -> list[cfg.Opt]:
    """Return an option for each operation's deadline."""
    return [
        cfg.FloatOpt(
            _name(operation),
            min=1.0,
            sample_default=DEFAULT_RPC_TIMEOUTS * 60.0,
            help=(
                f"How many seconds after the receipt of its start the {operation.value} is looked "
                f"at that has not ended. Unset: {DEFAULT_RPC_TIMEOUTS} times "
                "rpc_response_timeout_seconds of [cloud], because Nova's own tries may take "
                f"{NOVA_TRIES}. Looking earlier does no harm, and makes work."
            ),
        )
        for operation in Operation
    ]


def deadline_seconds(conf: cfg.ConfigOpts, operation: Operation) -> float:
    """Return how long a start of this operation waits for its end."""
    said: float | None = conf.ledger[_name(operation)]
    default: float = DEFAULT_RPC_TIMEOUTS * conf.cloud.rpc_response_timeout_seconds
    return default if said is None else said


def _name(operation: Operation) -> str:
    return f"{operation.value}_deadline_seconds"
