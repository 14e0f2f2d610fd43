"""A private certificate authority for tests, made with the openssl command."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services.tls import Tls


@dataclasses.dataclass(frozen=True, slots=True)
class Authority:
    """A CA of one's own; ``certificate`` is what others verify with."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """Return the PEM file of the CA's certificate."""
        return self.directory / "ca.pem"

    def issue(self, name: str, alternative: str) -> Tls:
        """Issue a server's certificate for one subjectAltName, ``IP:127.0.0.1`` or ``DNS:...``."""
        here = self.directory
        key, request, made = (here / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extension = here / f"{name}.ext"
        extension.write_text(f"subjectAltName = {alternative}\nauthorityKeyIdentifier = keyid\n")
        new = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-subj", f"/CN={name}"]
        _openssl("req", *new, "-out", str(request))
        signed_by = ["-CA", str(self.certificate), "-CAkey", str(here / "ca.key")]
        signing = [*signed_by, "-CAcreateserial", "-days", "2", "-extfile", str(extension)]
        _openssl("x509", "-req", "-in", str(request), *signing, "-out", str(made))
        return Tls(self.certificate, made, key)


def authority(directory: Path) -> Authority:
    """Make a CA in an empty directory; skip the test where there is no openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    made = Authority(directory)
    new = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(directory / "ca.key")]
    # Python 3.13 verifies strictly (VERIFY_X509_STRICT): a CA has to say that it signs.
    new += ["-addext", "keyUsage = critical, keyCertSign, cRLSign"]
    _openssl("req", *new, "-days", "2", "-subj", "/CN=test CA", "-out", str(made.certificate))
    return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
