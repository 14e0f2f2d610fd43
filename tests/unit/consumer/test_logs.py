"""Log lines of a worker thread say which case they are about."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_log import formatters, log

from consumer import logs
from consumer.errors import ConfigurationError
from handlers.case import Case, CaseState, Trigger
from handlers.notification import Operation
from tests.unit.consumer.due import LAB


def case(*request_ids: str) -> Case:
    """Make a case."""
    return Case(
        case_id="c-1",
        cloud="default",
        volume_id="v-1",
        operation=Operation.ATTACH,
        backend=LAB,
        trigger=Trigger.ERROR,
        state=CaseState.DUE,
        opened_at=datetime(2026, 1, 1, tzinfo=UTC),
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        signal_seq=1,
        request_ids=request_ids,
    )


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    """Make a configuration with oslo.log's options and our defaults."""
    logs.set_defaults()
    made = cfg.ConfigOpts()
    log.register_options(made)
    made([], default_config_files=[], default_config_dirs=[])
    return made


@pytest.fixture
def shown() -> Iterator[tuple[logging.Logger, logging.StreamHandler[io.StringIO]]]:
    """Give a logger whose lines can be read."""
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("handlers.somewhere")
    logger.addHandler(handler)
    yield logger, handler
    logger.removeHandler(handler)


def said_in_a_thread(logger: logging.Logger, about: Case | None) -> None:
    """Log one line in a thread that works a case, or none."""

    def say() -> None:
        if about is not None:
            logs.CaseContext(about)
        logger.warning("looked")

    thread = threading.Thread(target=say)
    thread.start()
    thread.join()


def test_line_of_a_worker_names_case_volume_and_request(
    conf: cfg.ConfigOpts, shown: tuple[logging.Logger, logging.StreamHandler[io.StringIO]]
) -> None:
    """Any module logs while a case is worked -> its ids are in the line."""
    logger, handler = shown
    handler.setFormatter(formatters.ContextFormatter(config=conf))
    said_in_a_thread(logger, case("req-7", "req-8"))
    said_in_a_thread(logger, None)
    about, other = handler.stream.getvalue().splitlines()
    assert "[req-7 case=c-1 volume=v-1] looked" in about
    assert "case=" not in other


def test_case_without_a_request_id_is_marked_all_the_same(
    conf: cfg.ConfigOpts, shown: tuple[logging.Logger, logging.StreamHandler[io.StringIO]]
) -> None:
    """A case that no request id is known of -> a dash in its place."""
    logger, handler = shown
    handler.setFormatter(formatters.ContextFormatter(config=conf))
    said_in_a_thread(logger, case())
    assert "[- case=c-1 volume=v-1] looked" in handler.stream.getvalue()


def test_json_lines_carry_the_same_ids(
    shown: tuple[logging.Logger, logging.StreamHandler[io.StringIO]],
) -> None:
    """use_json -> the ids are fields, and only they."""
    logger, handler = shown
    handler.setFormatter(formatters.JSONFormatter())
    said_in_a_thread(logger, case("req-7"))
    assert json.loads(handler.stream.getvalue())["context"] == {
        "request_id": "req-7",
        "case_id": "c-1",
        "volume_id": "v-1",
    }


def test_libraries_that_tell_of_every_look_are_quiet(conf: cfg.ConfigOpts) -> None:
    """Alembic logs at each schema check -> warnings only, by default."""
    assert conf.default_log_levels.count("alembic=WARN") == 1
    assert "amqp=WARN" in conf.default_log_levels


@pytest.mark.parametrize("option", ["log_file", "log_config_append"])
def test_log_that_cannot_be_is_a_wrong_configuration(tmp_path: Path, option: str) -> None:
    """A log file, or a logging configuration, that is nowhere -> which option, and why."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([], project="detachd", default_config_files=[], default_config_dirs=[])
    conf.set_override(option, str(tmp_path / "none" / "x"))
    with pytest.raises(ConfigurationError, match=rf"{option}.*{tmp_path}/none/x"):
        logs.set_up(conf, "1.0")
