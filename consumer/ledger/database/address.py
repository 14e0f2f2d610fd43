"""The URL that names a ledger's database: what it may say, and what of it may be shown."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import exc

from consumer.ledger.errors import LedgerUrlError

DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mariadb": "mariadb+pymysql",
    "mysql": "mariadb+pymysql",
}


def check_url(url: str) -> None:
    """Raise LedgerUrlError for a URL that no ledger can have; connects to nothing."""
    address_of(url)


def address_of(url: str) -> sa.URL:
    """Return the URL with the driver that is used. Raises LedgerUrlError, which shows no secret."""
    try:
        given = sa.make_url(url)
    except exc.ArgumentError:
        raise LedgerUrlError(
            "the ledger's URL does not parse; write sqlite:////var/lib/detachd/ledger.sqlite, "
            "postgresql://user:password@host/database or mariadb://user:password@host/database"
        ) from None
    kind = given.get_backend_name()
    if kind not in DRIVERS:
        raise LedgerUrlError(f"the ledger cannot live in {kind}: sqlite, postgresql or mariadb")
    if kind == "sqlite":
        _check_file(given.database or ":memory:")
    if of_tls := [name for name in given.query if name.startswith("ssl")]:
        raise LedgerUrlError(
            f"the ledger's URL says {', '.join(of_tls)}; say it in the options ssl, ssl_ca_file, "
            "ssl_cert_file, ssl_key_file and ssl_verify_hostname of [ledger] instead"
        )
    return given.set(drivername=DRIVERS[kind])


def shown(address: sa.URL) -> str:
    """Return the URL for people to read: without the password."""
    # the query may hold a password too, so nothing of it is shown
    return address.set(query={}).render_as_string(hide_password=True)


def _check_file(file: str) -> None:
    if ":memory:" in file:
        raise LedgerUrlError("a ledger in memory would be lost; name a file: sqlite:////PATH")
    if not file.startswith("/"):
        raise LedgerUrlError(
            "the ledger's file is named by a relative path: the service, and a command that is "
            "given in another directory, would each have a ledger of its own; name it by its "
            "absolute path, with four slashes: sqlite:////var/lib/detachd/ledger.sqlite"
        )
