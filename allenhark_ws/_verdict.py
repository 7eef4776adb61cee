"""What a server's words mean for the connection: is the key rejected, is it only trouble, or is it something else?

No reply to ``auth`` is documented and ``error`` has no documented shape, so these rules read types, codes and texts.
Neighbours: `_session` asks before the first pong, shortly after READY, and at every close.  It must never say what to
do about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from ._json import is_object
from .errors import AuthenticationError, ConnectionFailed, ConnectionLost, shortened
from .events import DataEvent, ServerError, ServerEvent, UnknownMessage

__all__ = ["of_close", "of_early_message", "of_fresh_error"]

AUTH_CLOSE_CODES: Final = frozenset({1008, 3000, 3003, 4001, 4003, 4401, 4403})
"""Close codes that mean the key: policy violation (RFC 6455, 7.4.1), the IANA registry's 3000 and 3003, and the private
codes in wide use for 401 and 403."""

_REJECTIONS: Final = frozenset({"auth_error", "auth_failed", "unauthorized"})
_REPLIES: Final = frozenset({"auth", "authenticated"})
_NEGATIVE: Final = frozenset({"error", "failed", "failure", "denied", "unauthorized", "forbidden", "invalid"})

# `re.search` compiles these when the first error comes, and keeps them: it takes milliseconds, and most programs never
# see one.
_TROUBLE: Final = r"""(?ix)
    rate.?limit | too.?many | throttl | quota | slow.?down | overload | capacity | busy | unavailable | maintenance
    | internal.?(server.?)?(error|failure) | server.?(error|failure) | bad.?gateway | restart | shut(ting)?.?down
    | \b(server|service)\b.{0,12}\b(down|fail) | \b(database|upstream|backend)\b | \bcode\sinternal\b
    | time(d.)?.?out | temporar | try.?again.?(later|in\b)
    | (limit|max(imum)?)\b.{0,24}\b(connection|session)s?\b | \b(connection|session)s?\b.{0,24}\b(limit|exceed)
    | limit.{0,16}(exceed|reached) | exceed.{0,24}limit
    | \b(http|status|code|error)\W{0,3}(429|5\d\d|101[1-4])\b"""
_KEY: Final = r"""(?ix)
    (api|access|auth)[\s-]*key | authenticat | \bauth(\b|error|fail) | \bunauthori[sz]ed | credential
    | (?<!public[\s-])\bkey\s+((is|was|has)\s+)?(been\s+)?(invalid|unknown|expired|revoked|disabled|rejected|wrong)
    | (invalid|unknown|expired|revoked|disabled|rejected|wrong|bad)[\s-]*key\b
    | \bkey\s+(is\s+|was\s+)?not\s+(valid|found|known|recogni[sz]ed|accepted)
    | \bcode\s(401|3000|4001|4401)\b"""
_BAD_API_KEY: Final = r"""(?ix)
    (invalid|unknown|expired|revoked|disabled|rejected|wrong|bad)[\s-]*api[\s-]*key
    | api[\s-]*key\s+((is|was|has)\s+)?(been\s+)?(invalid|unknown|expired|revoked|disabled|rejected|wrong)"""
_CODE_KEYS: Final = frozenset({"code", "errorcode", "status", "statuscode", "httpstatus"})
"""Keys whose numbers are codes, in lower case and without underscores; any other number may be an id or a time."""

_READ: Final = 4096
"""Characters of all texts together that are read: an honest reply has fewer, and reading a million takes a second."""

_CHANNEL_KEYS: Final = ("channel", "botId", "mint", "wallet")


def _words(event: ServerError | UnknownMessage) -> str:
    """All texts of a reply, one level of nested objects included, and its codes; for these rules, never to be shown."""
    own: dict[str, Any] = {"message": event.message, "code": event.code} if isinstance(event, ServerError) else {}
    reply = {**own, **event.extra}
    inner = [value for value in reply.values() if is_object(value)]
    phrases = (_phrase(key, value)[:_READ] for part in (reply, *inner) for key, value in part.items())
    return _joined(phrases).replace("_", " ")


def _joined(phrases: Iterable[str]) -> str:
    """The phrases one after another, as far as they are read."""
    words = ""
    for phrase in phrases:
        words += f"{phrase}; " if phrase else ""
        if len(words) >= _READ:
            break
    return words[:_READ]


def _phrase(key: str, value: object) -> str:
    if isinstance(value, (str, int)) and key.lower().replace("_", "") in _CODE_KEYS:
        return f"code {value}"
    return value if isinstance(value, str) else ""


def of_early_message(event: ServerEvent | DataEvent) -> ConnectionFailed | None:
    """Why a message that came before the first pong ends the attempt, or None when it does not."""
    if isinstance(event, ServerError):
        return _refusal(event.message or "an error without a text", event.code, _words(event))
    if isinstance(event, UnknownMessage) and _is_negative(event):
        return _refusal(f"it answered {event.type!r} to auth", None, _words(event))
    return None


def _refusal(told: str, code: int | str | None, words: str) -> ConnectionFailed:
    told = shortened(told)
    code = shortened(code) if isinstance(code, str) else code
    if re.search(_TROUBLE, words):
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

    An error that names a channel is about that channel, a bot one may not watch perhaps, unless it calls the API key
    itself bad: a server may check the key no sooner than it needs it.
    """
    words, extra = _words(event), event.extra
    pattern = _BAD_API_KEY if any(key in extra for key in _CHANNEL_KEYS) else _KEY
    if re.search(_TROUBLE, words) or not re.search(pattern, words):
        return None
    code = shortened(event.code) if isinstance(event.code, str) else event.code
    return AuthenticationError(shortened(event.message or "an error without a text"), code)


def of_close(loss: ConnectionLost) -> AuthenticationError | None:
    """The rejection that a close code amounts to, or None; the code decides, whatever the reason says."""
    if loss.code not in AUTH_CLOSE_CODES:
        return None
    return AuthenticationError(loss.close_reason or "the connection was closed without a reason", loss.code)
