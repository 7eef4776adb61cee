"""Whose certificate a server shows, in words; also that of one that does not verify.

Neighbours: `_doctor` asks, `_steps` shows.  It must never send a request over a connection that is not verified.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
from datetime import datetime, timezone
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen
from cryptography import x509

from ._output import counted

__all__ = ["Certificate", "look_at"]

_NAMES_SHOWN: Final = 4


@frozen
class Certificate:
    """What of a certificate helps to find out what is wrong.

    Attributes:
        subject: whom it names, as RFC 4514 spells it.
        issuer: who signed it.
        names: the host names and addresses it is for.
        not_before: when it begins to be valid, UTC.
        not_after: when it ends.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, der: bytes) -> Certificate | None:
        """Read it; None for what is none, which is the server's to send."""
        try:
            found = x509.load_der_x509_certificate(der)
            names = _names(found)
            subject, issuer = found.subject.rfc4514_string(), found.issuer.rfc4514_string()
        except ValueError:
            return None
        return cls(subject, issuer, names, found.not_valid_before_utc, found.not_valid_after_utc)

    def lines(self) -> list[str]:
        """It in a few lines."""
        left = (self.not_after - datetime.now(timezone.utc)).days
        until = f"{self.not_after:%Y-%m-%d}" + (
            f", {counted(left, 'day')} left" if left >= 0 else f", over for {counted(-left, 'day')}"
        )
        more = f" and {len(self.names) - _NAMES_SHOWN} more" if len(self.names) > _NAMES_SHOWN else ""
        return [
            f"certificate {self.subject or 'without a subject'}",
            f"for {', '.join(self.names[:_NAMES_SHOWN]) or 'no names'}{more}",
            f"issued by {'itself' if self.issuer == self.subject else self.issuer}",
            f"valid from {self.not_before:%Y-%m-%d} until {until}",
        ]


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
        return (*names, *(str(address) for address in found.get_values_for_type(x509.IPAddress)))
    return ()


def look_at(url: str, proxy: str, timeout: float) -> Certificate | None:
    """The certificate that did not verify: the handshake is made once more, without verifying, and nothing is sent.

    Args:
        url: the endpoint.
        proxy: the proxy that the client used, without credentials, or an empty text.
        timeout: seconds for each step.

    Returns:
        The certificate; None when this was not possible.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts, through = urlsplit(url), urlsplit(proxy)
    host, port = parts.hostname or "", parts.port or 443
    if not proxy:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    elif through.scheme == "http":
        connection = http.client.HTTPSConnection(
            through.hostname or "", through.port or 80, timeout=timeout, context=context
        )
        connection.set_tunnel(host, port)
    else:
        return None
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        connection.connect()
        if isinstance(connection.sock, ssl.SSLSocket):
            return Certificate.of(connection.sock.getpeercert(binary_form=True) or b"")
    return None
