"""Log lines that name their case, volume and request.

oslo.log takes these ids from the oslo.context of the thread. A worker thread sets the context when
it begins a case. From then on every line that it logs has the ids, in plain text and in JSON
(``use_json`` in the configuration).
"""

from __future__ import annotations

from typing import Any

from oslo_config import cfg
from oslo_context import context
from oslo_log import log

from consumer.errors import ConfigurationError
from handlers.case import Case

PRODUCT = "detachd"
CASE_FORMAT = (
    "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s "
    "[%(request_id)s case=%(case_id)s volume=%(volume_id)s] %(instance)s%(message)s"
)
QUIET = ("alembic=WARN", "sqlalchemy.pool=CRITICAL")
"""The libraries that oslo.log does not keep quiet by itself.

alembic logs every check of the schema. SQLAlchemy's pool logs a traceback for each lost connection;
the ledger logs one line for it.
"""


class CaseContext(context.RequestContext):
    """The case that a thread works on, as oslo.log needs it. Making it sets it for the thread."""

    def __init__(self, case: Case) -> None:
        # Before super().__init__, which stores the context for the thread: a line may be logged
        # from then on.
        self.case_id = case.case_id
        self.volume_id = case.volume_id
        super().__init__(request_id=case.request_ids[0] if case.request_ids else "-")

    def get_logging_values(self) -> dict[str, Any]:
        """Return the ids for the line."""
        return {
            "request_id": self.request_id,
            "case_id": self.case_id,
            "volume_id": self.volume_id,
        }


def set_defaults() -> None:
    """Set our defaults for options of oslo.log; the sample configuration shows them too."""
    quiet = [level for level in log.get_default_log_levels() if level not in QUIET]
    log.set_defaults(logging_context_format_string=CASE_FORMAT, default_log_levels=[*quiet, *QUIET])


def set_up(conf: cfg.ConfigOpts, version: str) -> None:
    """Set up logging as configured. Raises ConfigurationError if a log file cannot be used."""
    try:
        log.setup(conf, PRODUCT, version)
    except OSError as error:
        # oslo.log does not say which of the two it has used.
        problem = f"[DEFAULT] log_file or log_dir: {error.filename}: {error.strerror or error}"
        raise ConfigurationError([problem]) from error
    except log.LogConfigError as error:
        raise ConfigurationError([f"[DEFAULT] log_config_append: {error}"]) from error
