"""TLS on a TCP connection: wrapping, shaking hands, verifying the certificate as the context says.

Neighbours: `_connect` calls `start_tls`; `_guard` keeps the deadline.  It must never weaken a context: what is not
verified is refused.
"""

from __future__ import annotations

import selectors
import socket
import ssl

from ._guard import Opening, describe, wanted_mask
from ._target import Target, authority
from .config import Settings
from .errors import CertificateRejected, ConnectionFailed

__all__ = ["start_tls", "wrap"]


def start_tls(settings: Settings, opening: Opening, sock: socket.socket, target: Target) -> ssl.SSLSocket:
    """Wrap the socket and shake hands, verifying the certificate as the context says.

    Raises:
        CertificateRejected: the certificate does not verify.
        ConnectionFailed: anything else.
    """
    phase = f"TLS handshake with {authority(target.host, target.port)}"
    opening.tell("tls", "begun", server_name=target.server_name)
    try:
        context = settings.ssl_context or ssl.create_default_context()  # raises for an SSLKEYLOGFILE it cannot write
        secured = wrap(context, sock, target.server_name)
        opening.sockets.append(secured)
        _shake_hands(opening, secured, phase)
    except ssl.SSLCertVerificationError as error:
        raise CertificateRejected(error.verify_message, target.server_name) from error
    except OSError as error:
        raise ConnectionFailed(f"{phase}: {describe(error)}") from error
    except ValueError as error:
        raise ConnectionFailed(f"{phase}: {error}") from error
    if not isinstance(secured, ssl.SSLSocket):  # a context of its own making could return a socket in clear
        raise ConnectionFailed(f"{phase}: ssl_context gave a socket without TLS")
    cipher = secured.cipher() or ("",)
    certificate = secured.getpeercert(binary_form=True) or b""
    opening.tell("tls", "done", version=secured.version() or "", cipher=cipher[0], certificate=certificate)
    return secured


def wrap(context: ssl.SSLContext, sock: socket.socket, server_name: str) -> ssl.SSLSocket:
    """`SSLContext.wrap_socket` that leaves nothing open when it fails.

    On a connection that was reset meanwhile it raises after taking the descriptor over; the half-made socket then lives
    on in the traceback alone (CPython 3.10 to 3.13).
    """
    try:
        return context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException as error:
        traceback = error.__traceback__
        while traceback is not None:
            half_made = traceback.tb_frame.f_locals.get("self")
            if isinstance(half_made, ssl.SSLSocket):
                half_made.close()
            traceback = traceback.tb_next
        raise


def _shake_hands(opening: Opening, secured: ssl.SSLSocket, phase: str) -> None:
    while True:
        opening.check(phase)
        try:
            secured.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as blocked:
            wanted = wanted_mask(blocked, selectors.EVENT_READ)
        else:
            return
        opening.until_ready(secured, wanted, phase)
