"""From what the client logs and tells while it connects to the steps of a report: what, how long, and if not, why.

It takes moments and facts, and must never do I/O.  Neighbours: `_doctor` feeds it, `_advice` explains failures,
`_certificate` reads certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

from allenhark_ws import AuthenticationError, HandshakeRejected

from ._advice import advice
from ._certificate import Certificate
from ._options import NO_KEY

__all__ = ["STEPS", "Step", "Steps"]

STEPS: Final = ("proxy", "dns", "tcp", "tunnel", "tls", "upgrade", "auth", "pong", "clock")
"""In the order in which they happen."""

OK: Final = "ok"
FAILED: Final = "failed"
WARNING: Final = "warning"
SKIPPED: Final = "skipped"
NOT_REACHED: Final = "not reached"


@define
class Step:
    """One step of connecting.

    Attributes:
        name: one of `STEPS`.
        status: ``ok``, ``warning``, ``failed``, ``skipped`` (there was nothing to do) or ``not reached``.
        text: what came of it.
        details: further lines.
        advice: what to do about it.
        seconds: how long it took, or None.
    """

    name: str
    status: str = NOT_REACHED
    text: str = ""
    details: list[str] = field(factory=list[str])
    advice: str = ""
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For the report in JSON."""
        seconds = None if self.seconds is None else round(self.seconds, 6)
        return {
            "step": self.name,
            "status": self.status,
            "seconds": seconds,
            "text": self.text,
            "details": self.details,
            "advice": self.advice,
        }


@define
class Steps:
    """The steps of one connection as they come to an end.

    Attributes:
        secure: whether there is a TLS step.
        proxy: the proxy in use, without credentials, or an empty text.
    """

    secure: bool
    proxy: str = ""
    _finished: dict[str, Step] = field(factory=dict[str, Step])
    _begun: dict[str, float] = field(factory=dict[str, float])
    _dials: dict[str, tuple[float, str]] = field(factory=dict[str, tuple[float, str]])

    def hear(self, moment: float, step: str, outcome: str, facts: Mapping[str, Any]) -> Step | None:
        """Take one of the client's records of opening a connection; the step that came to its end, if one did.

        A proxy may have the server's name looked up after its own: that second look-up belongs to the tunnel.
        """
        if step in self._finished:
            return None
        if step == "tcp":
            self._dial(moment, outcome, facts)
        if outcome == "begun":
            self._begun.setdefault(step, moment)
        if outcome != "done":
            return None
        if step == "proxy":
            self.proxy = facts["proxy"]
        if step == "upgrade":
            self._begun["auth"] = moment
        return self._finish(moment, step, OK, _told(step, facts), self._details(step, facts))

    def _dial(self, moment: float, outcome: str, facts: Mapping[str, Any]) -> None:
        address = facts["address"]
        began, _ = self._dials.get(address, (moment, ""))
        said = {"begun": "", "done": "connected", "failed": facts.get("reason", "")}[outcome]
        self._dials[address] = (began if outcome == "begun" else moment - began), said

    def _details(self, step: str, facts: Mapping[str, Any]) -> list[str]:
        if step == "tcp":
            return self._attempts() if len(self._dials) > 1 else []
        if step == "tls":
            certificate = Certificate.of(facts["certificate"])
            return certificate.lines() if certificate else []
        return []

    def _attempts(self) -> list[str]:
        """A line for each address that was tried."""
        return [
            f"{address}: {said} after {value * 1000:.1f} ms" if said else f"{address}: no answer"
            for address, (value, said) in self._dials.items()
        ]

    def _finish(self, moment: float, name: str, status: str, text: str, details: list[str] | None = None) -> Step:
        began = self._begun.get(name)
        seconds = None if began is None else moment - began
        step = self._finished[name] = Step(name, status, text, details or [], seconds=seconds)
        return step

    @property
    def current(self) -> str:
        """The step that has begun and not come to its end; behind the upgrade that is ``auth``."""
        running = [name for name in STEPS if name in self._begun and name not in self._finished]
        return running[-1] if running else "dns"

    def not_tried(self) -> Step:
        """There is no key; what follows it is not reached."""
        return self.add(Step("auth", SKIPPED, "not tried: there is no API key", advice=NO_KEY))

    def accepted(self, moment: float) -> Step:
        """The first pong came, which no server sends to a key that it does not know."""
        return self._finish(moment, "auth", OK, "key accepted: the server answered the ping that followed it")

    def add(self, step: Step) -> Step:
        """A step that was made elsewhere."""
        self._finished[step.name] = step
        return step

    def failed(self, moment: float, error: Exception) -> list[Step]:
        """The connection failed: the step it failed at, explained."""
        name = self.current
        steps: list[Step] = []
        if name == "auth" and not isinstance(error, AuthenticationError) and "no pong" in str(error):
            steps.append(self.add(Step("auth", WARNING, "sent; whether it was accepted only a pong would tell")))
            name = "pong"
            self._begun[name] = self._begun["auth"]  # the ping went out right behind the key
        details = self._attempts() if name == "tcp" and len(self._dials) > 1 else []
        step = self._finish(moment, name, FAILED, _reason(error), details)
        step.advice = advice(name, error)
        return [*steps, step]

    def rest(self) -> list[Step]:
        """The steps that had nothing to do or were not reached."""
        direct = Step("tunnel", SKIPPED, "no proxy")
        plain = Step("tls", SKIPPED, "ws:// has none; the key does not leave this machine")
        missing: dict[str, Step] = {name: Step(name) for name in STEPS if name not in self._finished}
        if not self.proxy and "tunnel" in missing and "proxy" in self._finished:
            missing["tunnel"] = direct
        if not self.secure and "tls" in missing:
            missing["tls"] = plain
        return list(missing.values())

    def all(self) -> list[Step]:
        """Every step, in order."""
        steps = self._finished | {step.name: step for step in self.rest()}
        return [steps[name] for name in STEPS]


def _told(step: str, facts: Mapping[str, Any]) -> str:
    if step == "proxy":
        return facts["proxy"] or "none, direct"
    if step == "dns":
        found = ", ".join(dict.fromkeys(facts["addresses"]))
        return f"{facts['host']} is an address" if found == facts["host"] else f"{facts['host']} has {found}"
    if step == "tcp":
        return f"connected to {facts['address']}"
    if step == "tls":
        return f"{facts['version']}, {facts['cipher']}, certificate verified"
    return f"through {facts['proxy']}" if step == "tunnel" else "HTTP 101, WebSocket"


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "reason", error))
    if isinstance(error, HandshakeRejected):
        location = error.headers.get("location", "").partition("?")[0]
        told = [f"to {location}"] if location else []
        told += [] if error.retry_after is None else [f"asking to wait {error.retry_after:g} s"]
        return ", ".join([reason, *told])
    if isinstance(error, AuthenticationError) and error.code is not None and str(error.code) not in reason:
        return f"{reason}, code {error.code}"
    return reason
