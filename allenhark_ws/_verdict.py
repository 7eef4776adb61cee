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
from ._spelling import SPELLINGS
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
    | internal.?(server.?)?(error|failure|exception|problem) | server.?(error|failure) | bad.?gateway
    | \b(server|service|database|upstream|backend)\b ((?!auth|key|cred).){0,16}
        (error|exception|problem|failure|failed|\bdown\b|crash|restart|unavail|unreach)
    | \brestart(?!ed) | shut(ting)?.?down | \bcode\sinternal\b | time(d.)?.?out | temporar | try.?again.?(later|in\b)
    | \brates?\b.{0,16}exceed | (requests|messages)\s(per|an?)\s(second|minute|hour)
    | (limit|max(imum)?)\b.{0,24}\b(connection|session)s?\b | \b(connection|session)s?\b.{0,24}\b(limit|exceed)
    | limit.{0,16}(exceed|reached) | exceed.{0,24}limit
    | \b(http|status|code|error)\W{0,3}(429|5\d\d|101[1-4])\b | [(\[]429[)\]]"""
_VAGUE: Final = r"""(?ix)
    \b(error|exception|problem)\b .{0,24} \b(server|service|database|upstream|backend)\b
    | (\bnot\b|\bcannot\b|n't|\bto\b)\s+reach\b .{0,16} \b(server|service|database|upstream|backend)\b
    | [(\[]5\d\d[)\]]"""
"""Trouble, unless the key is spoken of, too."""
_KEY: Final = r"""(?ix)
    (api|access|auth)[\s-]*key | (?<!already\s)authenticat | (?<!type:\s)(?<!type\s)\bauth(\b|error|fail)
    | \bunauthori[sz]ed | credential
    | (?<!public[\s-])\bkey\s+((is|was|has)\s+)?(been\s+)?
        (invalid|unknown|expired|revoked|disabled|rejected|wrong|suspended|blocked)
    | (expired|revoked|disabled|rejected|wrong|bad)[\s-]*key\b
    | (invalid|unknown)[\s-]*key\b (?! \s*:?\s*['"] | \s+in\b)
    | (missing|no\ssuch)\s+key\b (?= \s*([;.,!]|$))
    | (^|;\s|\b(your|the|a|valid)\s) key\s+(is\s+)?(required|missing)\b
    | \bkey\s+(is\s+|was\s+)?not\s+(valid|found|known|recogni[sz]ed|accepted)
    | \b(http|status|code|error)\W{0,3}401\b | \bcode\s(3000|4001|4401)\b"""
_BAD_API_KEY: Final = r"""(?ix)
    (invalid|unknown|expired|revoked|disabled|rejected|wrong|bad)[\s-]*api[\s-]*key
    | api[\s-]*key\s+((is|was|has)\s+)?(been\s+)?(invalid|unknown|expired|revoked|disabled|rejected|wrong)"""
_CODE_KEYS: Final = frozenset({"code", "errorcode", "status", "statuscode", "httpstatus"})
"""Keys whose numbers are codes, spelled as `_plain` does; any other number may be an id or a time."""

_ASIDE: Final = frozenset(
    (
        *("docs", "doc", "documentation", "url", "uri", "href", "link", "links", "see", "help", "hint", "support"),
        *("contact", "upgrade", "server", "host", "hostname", "node", "instance", "region"),
    )
)
"""Keys of texts that do not say what is wrong: links, advice, names of machines."""

_READ: Final = 4096
"""Characters of all texts together that are read: an honest reply has fewer, and reading a million takes a second."""

_CHANNEL_KEYS: Final = ("channel", *(spelling.key for spelling in SPELLINGS.values()))


def _words(event: ServerError | UnknownMessage) -> str:
    """What a reply says, one level of nested objects included, and its codes; for these rules, never to be shown."""
    own: dict[str, Any] = {"message": event.message, "code": event.code} if isinstance(event, ServerError) else {}
    reply = {**own, **event.extra}
    inner = [value for value in reply.values() if is_object(value)]
    said = ((_plain(key), value) for part in (reply, *inner) for key, value in part.items())
    return _joined((key, value) for key, value in said if key not in _ASIDE).replace("_", " ")


def _is_trouble(words: str) -> bool:
    return bool(re.search(_TROUBLE, words) or (re.search(_VAGUE, words) and not re.search(_KEY, words)))


def _plain(key: str) -> str:
    return key.lower().replace("_", "")


def _joined(said: Iterable[tuple[str, object]]) -> str:
    """The phrases one after another, as far as they are read."""
    words = ""
    for key, value in said:
        phrase = _phrase(key, value)[:_READ]
        words += f"{phrase}; " if phrase else ""
        if len(words) >= _READ:
            break
    return words[:_READ]


def _phrase(key: str, value: object) -> str:
    if isinstance(value, (str, int, float)) and key in _CODE_KEYS:
        return f"code {value:.0f}" if isinstance(value, float) else f"code {value}"
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
    if _is_trouble(words):
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
    if _is_trouble(words) or not re.search(pattern, words):
        return None
    code = shortened(event.code) if isinstance(event.code, str) else event.code
    return AuthenticationError(shortened(event.message or "an error without a text"), code)


def of_close(loss: ConnectionLost) -> AuthenticationError | None:
    """The rejection that a close code amounts to, or None; the code decides, whatever the reason says."""
    if loss.code not in AUTH_CLOSE_CODES:
        return None
    return AuthenticationError(loss.close_reason or "the connection was closed without a reason", loss.code)
