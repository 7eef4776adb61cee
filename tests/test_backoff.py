"""When to try again: bounds, jitter, counts and verdicts, all without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._backoff import Retry, bound, honour, is_terminal
from allenhark_ws.config import Backoff
from allenhark_ws.errors import (
    AuthenticationError,
    CertificateRejected,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    HandshakeRejected,
)

from .fakes import Dice

TRANSIENT = ConnectionFailed("refused")
TERMINAL = AuthenticationError("no such key")


def retry(draw: float = 1.0, **changes: float | None) -> Retry:
    """A `Retry` whose jitter is known."""
    return Retry(Backoff(**changes), Dice(draw))  # type: ignore[arg-type]


def test_bounds_grow_to_the_maximum() -> None:
    """Initial, times the multiplier from wait to wait, never above the maximum."""
    assert [bound(Backoff(), wait) for wait in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("backoff", [Backoff(), Backoff(initial=1, maximum=5, multiplier=3), Backoff(multiplier=1e300)])
def test_bounds_never_overflow(backoff: Backoff) -> None:
    """After years of failing the bound is still the maximum."""
    assert bound(backoff, 100_000) == backoff.maximum


def test_a_multiplier_of_one_never_grows() -> None:
    """The wait stays where it began."""
    assert bound(Backoff(multiplier=1.0), 1_000_000) == 0.5


@pytest.mark.parametrize(
    ("delay", "retry_after", "maximum", "expected"),
    [
        (7.0, None, 30.0, 7.0),
        (7.0, 3.0, 30.0, 7.0),
        (7.0, 20.0, 30.0, 20.0),
        (7.0, 299.5, 30.0, 299.5),
        (7.0, 300.0, 30.0, 300.0),
        (7.0, 301.0, 30.0, 300.0),
        (7.0, 1e12, 600.0, 600.0),
        (7.0, 500.0, 600.0, 500.0),
        (7.0, 0.0, 30.0, 7.0),
    ],
)
def test_retry_after_stretches_within_reason(
    delay: float, retry_after: float | None, maximum: float, expected: float
) -> None:
    """What the server asks for counts up to 300 s, or the maximum if that is larger; it shortens nothing."""
    assert honour(Backoff(maximum=maximum), delay, retry_after) == expected


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (AuthenticationError("key"), True),
        (CertificateRejected("expired"), True),
        (ConfigurationError("no key"), True),
        (ConnectionFailed("refused"), False),
        (ConnectTimeout("slow"), False),
        (HandshakeRejected(503), False),
        (ConnectionLost("reset"), False),
        (None, False),
    ],
)
def test_what_is_terminal(failure: BaseException | None, expected: bool) -> None:
    """Wrong keys, certificates and settings stay wrong; everything else may pass."""
    assert is_terminal(failure) is expected


def test_failures_wait_longer_and_count() -> None:
    """Each failure is the end of one try and announces the next."""
    subject = retry()
    assert subject.attempt == 1
    assert [subject.after_failure(TRANSIENT) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert subject.attempt == 5
    assert subject.failed == 4


def test_jitter_is_full() -> None:
    """The delay is drawn from 0 to the bound, once per wait."""
    dice = Dice(0.25)
    subject = Retry(Backoff(), dice)
    assert [subject.after_failure(TRANSIENT) for _ in range(3)] == [0.125, 0.25, 0.5]
    assert dice.draws == 3
    assert retry(0.0).after_failure(TRANSIENT) == 0.0


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_max_attempts(limit: int) -> None:
    """As many failures as allowed end it, not one less; and it stays ended."""
    subject = retry(max_attempts=limit)
    assert None not in [subject.after_failure(TRANSIENT) for _ in range(limit - 1)]
    assert subject.after_failure(TRANSIENT) is None
    assert subject.after_failure(TRANSIENT) is None


def test_max_attempts_counts_over_a_short_ready_and_not_over_a_stable_one() -> None:
    """Only a connection that was stable wipes the slate clean."""
    subject = retry(max_attempts=3)
    subject.after_failure(TRANSIENT)
    subject.ready()
    assert subject.after_loss(None, stable=False) is not None
    assert subject.after_failure(TRANSIENT) is not None
    subject.ready()
    subject.after_loss(None, stable=True)
    assert [subject.after_failure(TRANSIENT) is None for _ in range(3)] == [False, False, True]


def test_a_stable_loss_is_retried_at_once_without_a_draw() -> None:
    """The first retry after the loss of a stable connection waits for nothing, and the waits begin anew."""
    dice = Dice()
    subject = Retry(Backoff(), dice)
    subject.after_failure(TRANSIENT)
    subject.after_failure(TRANSIENT)
    subject.ready()
    assert subject.after_loss(None, stable=True) == 0.0
    assert dice.draws == 2
    assert (subject.attempt, subject.failed) == (1, 0)
    assert subject.after_failure(TRANSIENT) == 0.5
    assert subject.attempt == 2


def test_a_short_connection_waits_on() -> None:
    """A loss of an unstable connection takes its place in the growing waits, while tries are numbered from 1."""
    subject = retry()
    assert subject.after_failure(TRANSIENT) == 0.5
    subject.ready()
    assert subject.after_loss(None, stable=False) == 1.0
    assert (subject.attempt, subject.failed) == (1, 1)
    assert subject.after_failure(TRANSIENT) == 2.0


def test_a_terminal_failure_before_any_ready_is_final() -> None:
    """A client that never was READY has no reason to believe in its settings."""
    assert retry().after_failure(TERMINAL) is None


def test_once_ready_one_terminal_failure_is_forgiven() -> None:
    """The first is retried with backoff, the second is final, whichever way they come."""
    subject = retry()
    subject.ready()
    assert subject.after_loss(TERMINAL, stable=False) == 0.5
    subject.ready()
    assert subject.after_loss(TERMINAL, stable=False) is None
    subject = retry()
    subject.ready()
    assert subject.after_loss(None, stable=False) == 0.5
    assert subject.after_failure(CertificateRejected("expired")) == 1.0
    assert subject.after_failure(TRANSIENT) == 2.0
    assert subject.after_failure(TERMINAL) is None


def test_a_stable_connection_earns_forgiveness_anew() -> None:
    """A terminal-class loss of a stable connection is waited for, not retried at once, and the next one is final."""
    subject = retry()
    subject.ready()
    assert subject.after_loss(TERMINAL, stable=True) == 0.5
    subject.ready()
    assert subject.after_loss(TERMINAL, stable=True) == 0.5
    subject.ready()
    assert subject.after_loss(TERMINAL, stable=False) is None


def test_max_attempts_hold_for_forgiven_failures_too() -> None:
    """Forgiveness does not add a try."""
    subject = retry(max_attempts=1)
    subject.ready()
    subject.after_loss(None, stable=False)
    assert subject.after_failure(TERMINAL) is None


def test_the_server_asks_to_wait() -> None:
    """Retry-After stretches the wait of its own failure only."""
    subject = retry()
    assert subject.after_failure(HandshakeRejected(429, retry_after=42.0)) == 42.0
    assert subject.after_failure(HandshakeRejected(503)) == 1.0


def test_a_wanted_reconnect_costs_nothing() -> None:
    """Only a stable connection given up for it resets the counts; the next try is the first since the loss."""
    subject = retry()
    subject.after_failure(TRANSIENT)
    subject.after_reconnect(stable=False)
    assert (subject.attempt, subject.failed) == (1, 1)
    assert subject.after_failure(TRANSIENT) == 1.0
    subject.after_reconnect(stable=True)
    assert (subject.attempt, subject.failed) == (1, 0)
    assert subject.after_failure(TRANSIENT) == 0.5


@given(
    initial=st.floats(1e-6, 1e3),
    factor=st.floats(1, 1e6),
    multiplier=st.floats(1, 1e6),
    wait=st.integers(0, 10**6),
    draw=st.floats(0, 1),
)
def test_delays_stay_between_zero_and_the_bound(
    initial: float, factor: float, multiplier: float, wait: int, draw: float
) -> None:
    """Whatever the settings: no delay is negative or above the maximum, and bounds never shrink."""
    backoff = Backoff(initial=initial, maximum=initial * factor, multiplier=multiplier)
    assert 0 < bound(backoff, wait) <= bound(backoff, wait + 1) <= backoff.maximum
    delay = Retry(backoff, Dice(draw)).after_failure(TRANSIENT)
    assert delay is not None
    assert 0 <= delay <= bound(backoff, 0)
