"""What a server's words mean for the connection: is the key rejected, is it only trouble, or is it about something else?

No reply to ``auth`` is documented and ``error`` has no documented shape, so these rules read types, codes and texts.  They
are pure.  Neighbours: `_session` asks before the first pong, shortly after READY, and at every close.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import AuthenticationError, ConnectionFailed, ConnectionLost
from .events import ServerError, ServerEvent, UnknownMessage

__all__ = ["of_close", "of_early_message", "of_fresh_error"]

AUTH_CLOSE_CODES: Final = frozenset({1008, 3000, 3003, 4001, 4003, 4401, 4403})
"""Close codes that mean the key: policy violation (RFC 6455, 7.4.1), the IANA registry's 3000 and 3003, and the private
codes in wide use for 401 and 403."""

_REJECTIONS: Final = frozenset({"auth_error", "auth_failed", "unauthorized"})
_REPLIES: Final = frozenset({"auth", "authenticated"})
_NEGATIVE: Final = frozenset({"error", "failed", "failure", "denied", "unauthorized", "forbidden", "invalid"})

_TROUBLE: Final = re.compile(
    r"""rate.?limit | too.?many | throttl | quota | slow.?down | overload | capacity | \bbusy\b | unavailable
    | maintenance | internal.?(server.?)?error | server.?error | bad.?gateway | time.?d?.?out | temporar | try.?again
    | \b(429|50[0-4])\b""",
    re.IGNORECASE | re.VERBOSE,
)
_KEY: Final = re.compile(
    r"""\b(api|access|auth)[\s_-]*key | apikey | authenticat | \bauth\b | \bauth_ | \bunauthori[sz]ed\b | credential
    | (?<!public[\s_-])\bkey\s+(is\s+|was\s+|has\s+)?(been\s+)?(invalid|unknown|expired|revoked|disabled|rejected|wrong)
    | \b(invalid|unknown|expired|revoked|disabled|rejected|wrong|bad)[\s_-]+key\b""",
    re.IGNORECASE | re.VERBOSE,
)
_TROUBLE_CODES: Final = frozenset({"429", "500", "502", "503", "504", "1013"})
_KEY_CODES: Final = frozenset({"401", "3000", "4001", "4401"})


def _says_trouble(text: str, code: int | str | None) -> bool:
    return str(code) in _TROUBLE_CODES or bool(_TROUBLE.search(f"{code or ''} {text}"))


def _says_key(text: str, code: int | str | None) -> bool:
    return str(code) in _KEY_CODES or bool(_KEY.search(f"{code or ''} {text}"))


def _words(event: ServerEvent) -> str:
    """All text of a reply, for the rules that look for words; never shown to anyone."""
    return " ".join(str(value) for value in event.extra.values() if isinstance(value, (str, int, dict)))


def of_early_message(event: ServerEvent) -> ConnectionFailed | None:
    """Why a message that came before the first pong ends the attempt, or None when it does not."""
    if isinstance(event, ServerError):
        return _refusal(event.message or "an error without a text", event.code, f"{event.message} {_words(event)}")
    if isinstance(event, UnknownMessage) and _is_negative(event):
        return _refusal(f"it answered {event.type!r} to auth", None, _words(event))
    return None


def _refusal(told: str, code: int | str | None, words: str) -> ConnectionFailed:
    if _says_trouble(words, code):
        detail = "" if code is None else f" ({code})"
        return ConnectionFailed(f"the server answered an error to auth: {told}{detail}")
    return AuthenticationError(told, code)


def _is_negative(event: UnknownMessage) -> bool:
    if event.type in _REJECTIONS:
        return True
    if event.type not in _REPLIES:
        return False
    reply = event.extra
    status = reply.get("status")
    return (
        reply.get("success") is False
        or reply.get("error") not in (None, False, "")
        or (isinstance(status, str) and status.lower() in _NEGATIVE)
    )


def of_fresh_error(event: ServerError) -> AuthenticationError | None:
    """The rejection that an error just after READY amounts to, or None when it is not clearly about the key.

    An error that names a channel is about that channel: a bot one may not watch does not make the key wrong.
    """
    words = f"{event.message} {_words(event)}"
    about_channel = any(key in event.extra for key in ("channel", "botId", "mint", "wallet"))
    if about_channel or _says_trouble(words, event.code) or not _says_key(words, event.code):
        return None
    return AuthenticationError(event.message or "an error without a text", event.code)


def of_close(loss: ConnectionLost) -> AuthenticationError | None:
    """The rejection that a close code amounts to, or None."""
    if loss.code not in AUTH_CLOSE_CODES or _says_trouble(loss.close_reason, None):
        return None
    told = loss.close_reason or "the connection was closed without a reason"
    return AuthenticationError(told, loss.code)
