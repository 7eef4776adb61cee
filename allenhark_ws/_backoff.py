"""When to try again: pure arithmetic over a `Backoff`, and the counts it is applied to.

Neighbours: `_session` tells it of every failure and loss and obeys its verdict.  It must never look at a clock or throw
dice: time and randomness are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define

from .config import Backoff
from .errors import AuthenticationError, CertificateRejected, ConfigurationError, ConnectionFailed, HandshakeRejected

__all__ = ["Retry", "bound", "honour", "is_terminal"]

_RETRY_AFTER_CAP: Final = 300.0
"""The longest ``Retry-After`` obeyed, seconds, unless `Backoff.maximum` is longer: a typo must not park a client."""


def bound(backoff: Backoff, wait: int) -> float:
    """The upper bound, in seconds, of the wait number `wait`, counted from 0."""
    try:
        return min(backoff.maximum, backoff.initial * backoff.multiplier**wait)
    except OverflowError:
        return backoff.maximum


def honour(backoff: Backoff, delay: float, retry_after: float | None) -> float:
    """The delay, stretched to what the server asked for (RFC 9110, section 10.2.3), within reason."""
    if retry_after is None:
        return delay
    return max(delay, min(retry_after, max(_RETRY_AFTER_CAP, backoff.maximum)))


def is_terminal(failure: BaseException | None) -> bool:
    """Whether trying again with the same settings is pointless: the key, the certificate or a setting is wrong."""
    return isinstance(failure, (AuthenticationError, CertificateRejected, ConfigurationError))


@define(eq=False)
class Retry:
    """Counts tries and says, after each failure or loss, how long to wait, or None: give up.

    Attributes:
        attempt: number of the current or coming try since the start or the last loss, from 1.
        failed: failed attempts in a row, as `Backoff.max_attempts` counts them: a short READY between resets nothing.
    """

    backoff: Backoff
    _draw: Callable[[], float]
    attempt: int = 1
    failed: int = 0
    _waits: int = 0
    _forgiven: bool = False
    _was_ready: bool = False

    def ready(self) -> None:
        """The attempt succeeded; from now on one terminal failure is forgiven."""
        self._was_ready = True

    def stable(self) -> None:
        """The connection was READY for `Backoff.reset_after` seconds: start all counts anew."""
        self.failed = 0
        self._waits = 0
        self._forgiven = False

    def after_failure(self, failure: Exception) -> float | None:
        """An attempt failed; seconds until the next, or None."""
        self.failed += 1
        self.attempt += 1
        if self._exhausted() or (is_terminal(failure) and not self._forgive()):
            return None
        retry_after = failure.retry_after if isinstance(failure, HandshakeRejected) else None
        return honour(self.backoff, self._wait(), retry_after)

    def after_loss(self, failure: ConnectionFailed | None, *, stable: bool) -> float | None:
        """A READY connection was lost; seconds until the next attempt, or None.

        Args:
            failure: the terminal-class failure that caused the loss, if one did.
            stable: the connection was READY for `Backoff.reset_after` seconds.
        """
        self.attempt = 1
        if stable:
            self.stable()
        if is_terminal(failure):
            return self._wait() if self._forgive() else None
        return 0.0 if stable else self._wait()

    def after_reconnect(self, *, stable: bool) -> None:
        """A READY connection was given up at the user's wish, for a new one at once; `stable` as in `after_loss`."""
        self.attempt = 1
        if stable:
            self.stable()

    def _exhausted(self) -> bool:
        return self.backoff.max_attempts is not None and self.failed >= self.backoff.max_attempts

    def _forgive(self) -> bool:
        """Whether this terminal failure may be retried: the first since the connection was stable, once READY."""
        if not self._was_ready or self._forgiven:
            return False
        self._forgiven = True
        return True

    def _wait(self) -> float:
        delay = self._draw() * bound(self.backoff, self._waits)
        self._waits += 1
        return delay
