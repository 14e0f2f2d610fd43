"""Log lines that say which case, volume and request they are about.

oslo.log takes what it adds to each line from the thread's oslo.context; a worker thread that has
entered a case thereby marks every line of every module until it ends, in plain text and in JSON
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
"""What oslo.log does not keep quiet by itself.

alembic tells of every look at the schema; SQLAlchemy's pool, with a traceback, of each connection
that it cannot even roll back, which is what a lost connection is: the ledger tells of it.
"""


class CaseContext(context.RequestContext):
    """The case that a thread is working, as oslo.log asks for it; becomes the thread's own."""

    def __init__(self, case: Case) -> None:
        self.case_id = case.case_id
        self.volume_id = case.volume_id
        super().__init__(request_id=case.request_ids[0] if case.request_ids else "-")

    def get_logging_values(self) -> dict[str, Any]:
        """Return what goes into the line: ids only."""
        return {
            "request_id": self.request_id,
            "case_id": self.case_id,
            "volume_id": self.volume_id,
        }


def set_defaults() -> None:
    """Set our defaults of oslo.log's options; the sample configuration shows them too."""
    quiet = [level for level in log.get_default_log_levels() if level not in QUIET]
    log.set_defaults(logging_context_format_string=CASE_FORMAT, default_log_levels=[*quiet, *QUIET])


def set_up(conf: cfg.ConfigOpts, version: str) -> None:
    """Send log lines where the configuration says. Raises ConfigurationError where it cannot."""
    try:
        log.setup(conf, PRODUCT, version)
    except OSError as error:
        problem = f"[DEFAULT] log_file or log_dir: {error.filename}: {error.strerror or error}"
        raise ConfigurationError([problem]) from error
    except log.LogConfigError as error:
        raise ConfigurationError([f"[DEFAULT] log_config_append: {error}"]) from error
