"""What goes wrong between a client that speaks TLS, or does not, and a broker: in words."""

from __future__ import annotations

import ssl

OPTION = "[oslo_messaging_rabbit] ssl"


def explained(error: BaseException, *, spoken: bool) -> str:
    """Say what TLS has to do with a connection that failed; "" where it has nothing.

    ``spoken``: whether we tried to speak it. Looks at what caused the error, too: kombu wraps it.
    """
    chain = _chain(error)
    found = next((each for each in chain if isinstance(each, ssl.SSLError)), None)
    match found:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {found.verify_message}"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return f"it does not speak TLS on this port, and {OPTION} is true"
        case ssl.SSLError():
            return f"TLS failed: {found.reason or found}"
    if spoken and any(isinstance(each, FileNotFoundError | PermissionError) for each in chain):
        return "a file that ssl_ca_file, ssl_cert_file or ssl_key_file names cannot be read"
    if not spoken and any(_closed(each) for each in chain):
        return f"it closed the connection at once; if this port speaks TLS, set {OPTION} = true"
    return ""


def _closed(error: BaseException) -> bool:
    return isinstance(error, ConnectionResetError) or "closed the connection" in str(error)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return found
