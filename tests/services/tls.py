"""What a private server shows to clients that speak TLS."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the CA that it is of, its certificate and its key."""

    ca: Path
    certificate: Path
    key: Path
