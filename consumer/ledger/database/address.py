"""The URL of the ledger's database, and TLS to its server.

This module checks the URL and removes its secrets for display. If TLS is configured, the server's
certificate is always verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

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
    """Raise LedgerUrlError for a URL that is not supported; connects to nothing."""
    address_of(url)


def address_of(url: str) -> sa.URL:
    """Return the URL with its driver. Raises LedgerUrlError, which contains no secret."""
    try:
        given = sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # the latter for a port that is no number
        raise LedgerUrlError(
            "the ledger's URL does not parse; write sqlite:////var/lib/detachd/ledger.sqlite, "
            "postgresql://user:password@host/database or mariadb://user:password@host/database"
        ) from None
    kind = given.get_backend_name()
    if kind not in DRIVERS:
        raise LedgerUrlError(
            f"the ledger does not support {kind}; use sqlite, postgresql or mariadb"
        )
    if kind == "sqlite":
        _check_file(given.database or ":memory:")
    # The driver would take what follows the last @ of the authority for the host, and errors name
    # the host.
    elif url.count("@") > 1:
        raise LedgerUrlError(
            "the ledger's URL has more than one @, so a part of the password would be taken for "
            "the host: write %40 for an @ in the user, the password and every other part"
        )
    # In the URL they would be passed to the driver and could switch off the verification that
    # [ledger] asks for.
    if of_tls := [name for name in given.query if name.startswith("ssl")]:
        raise LedgerUrlError(
            f"the ledger's URL has {', '.join(of_tls)}; use the options ssl, ssl_ca_file, "
            "ssl_cert_file, ssl_key_file and ssl_verify_hostname in [ledger] instead"
        )
    return given.set(drivername=DRIVERS[kind])


def shown(address: sa.URL) -> str:
    """Return the URL without its password, for display."""
    # the query is not shown: it may contain a password too
    return address.set(query={}).render_as_string(hide_password=True)


def _check_file(file: str) -> None:
    # SQLAlchemy also knows file::memory:?cache=shared.
    if ":memory:" in file:
        raise LedgerUrlError(
            "a ledger in memory would be lost at a restart; use a file: sqlite:////PATH"
        )
    if not file.startswith("/"):
        raise LedgerUrlError(
            "the ledger's file has a relative path: the service and a command in another directory "
            "would use different files; write the absolute path, with four slashes: "
            "sqlite:////var/lib/detachd/ledger.sqlite"
        )


PYMYSQL_THAT_INSISTS = (1, 2)

# Where systems keep their CAs in one file. libpq accepts no directory, and the libpq in psycopg's
# wheel does not know where this system keeps them.
_SYSTEMS_CAS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")

_NAMES = ("does not match host name", "Hostname mismatch", "IP address mismatch")
_NO_TLS = ("does not support SSL", "SSL is required but the server")


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """How the database server is verified. Files are PEM. The default CAs are those of the system.

    ``cert_file`` and ``key_file`` are the client certificate, for a server that asks for one.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_hostname: bool = True


def connect_arguments(kind: str, tls: Tls | None) -> Mapping[str, Any]:
    """Return the arguments for the driver of this database. Raises LedgerUrlError.

    Without ``tls`` the default of the drivers holds: encrypted if the server offers it, and nothing
    is verified.
    """
    if tls is None:
        return {}
    if kind == "sqlite":
        raise LedgerUrlError("[ledger] ssl is true, but SQLite has no server: set ssl = false")
    # For PostgreSQL too, which reads the files itself: only so does an error name the wrong option
    # at the start.
    context = _context(tls)
    if kind == "postgresql":
        return _libpq(tls)
    # Only MariaDB: libpq refuses by sslmode.
    _refuse_clear_text()
    return {"ssl": context}


def tls_explained(message: str, tls: Tls | None) -> str:
    """Return how TLS caused a connection to fail with this message; "" if it did not."""
    if tls is None:
        return ""
    if any(phrase in message for phrase in _NO_TLS):
        return "[ledger] ssl is true, but this server does not speak TLS"
    if any(phrase in message for phrase in _NAMES):
        return "the server's certificate is for another name than the host in [ledger] connection"
    if "certificate verify failed" in message or "CERTIFICATE_VERIFY_FAILED" in message:
        return f"the server's certificate was not issued by a CA in {tls.ca_file or 'the system'}"
    return ""


def _context(tls: Tls) -> ssl.SSLContext:
    """Load the files, so that an error names the file before the first connection."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("ssl_ca_file", tls.ca_file, error) from None
    context.check_hostname = tls.verify_hostname
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # private CAs often lack what RFC 5280 asks for
    if tls.cert_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("ssl_cert_file or ssl_key_file", tls.cert_file, error) from None
    return context


def _refuse_clear_text() -> None:
    """Raise LedgerUrlError for a PyMySQL that does without TLS where that was asked for."""
    # Before 1.2 it goes on without TLS where the server offers none (pymysql/connections.py,
    # _request_authentication), so whoever stands between could read and change everything.
    with contextlib.suppress(metadata.PackageNotFoundError):  # which is told when it is imported
        found = metadata.version("PyMySQL")
        if tuple(int(part) for part in found.split(".")[:2]) < PYMYSQL_THAT_INSISTS:
            raise LedgerUrlError(
                f"[ledger] ssl is true, but PyMySQL {found} goes on in the clear where the server "
                "offers no TLS: install PyMySQL 1.2 or newer, or set ssl = false"
            )


def _unusable(option: str, file: str | None, error: OSError) -> LedgerUrlError:
    why = error.strerror or getattr(error, "reason", None) or "no certificate in PEM"
    return LedgerUrlError(f"[ledger] {option} = {file} cannot be used: {why}")


def _libpq(tls: Tls) -> Mapping[str, Any]:
    # "system" is what libpq 16 and newer call its own search for the CAs.
    system = next((file for file in _SYSTEMS_CAS if Path(file).exists()), "system")
    arguments = {
        "sslmode": "verify-full" if tls.verify_hostname else "verify-ca",
        "sslrootcert": tls.ca_file or system,
        "sslcert": tls.cert_file,
        "sslkey": tls.key_file,
    }
    return {name: value for name, value in arguments.items() if value}
