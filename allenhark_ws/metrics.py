"""Prometheus metrics of clients and their streams: `ClientMetrics`.

::

    metrics = ClientMetrics()               # once for each registry
    metrics.add(client, "main")
    start_http_server(9000)                 # prometheus_client's own

A scrape reads ``client.stats``, so that being watched costs a client nothing; only ``latency=True`` does, which adds a
callback to every data event.  For tracing there is nothing here: hook into ``client.on(Event, …)``, which hears of each
message with its `received_at`, of each loss, retry and gap, and of slow and failing callbacks.

Needs the extra ``metrics``: ``pip install "allenhark-ws[metrics]"``.  Neighbours: none; it uses the package through its
public names, but for the round trips, which `Stats` does not tell one by one.  It must never keep a client alive, nor
wait for a lock in `remove`: a user's finalizer may call that in the midst of a scrape, where prometheus_client holds
locks of its own that are not reentrant.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from attrs import define

from . import BotUpdate, Client, ConfigurationError, DataEvent, PriceUpdate, State, Stream, TradeExecuted

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise ImportError(
        'the metrics need the package prometheus-client: pip install "allenhark-ws[metrics]"', name="prometheus_client"
    ) from None

__all__ = ["ClientMetrics"]

_PREFIX: Final = "allenhark_ws_"
_LATENCIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets, seconds; those of round trips are the same."""

_COUNTERS: Final = (
    ("received_bytes", "bytes_received", "Payload bytes of the messages received."),
    ("messages_sent", "messages_sent", "Messages handed to the socket."),
    ("invalid_messages", "invalid", "Messages that became InvalidMessage."),
    ("unknown_messages", "unknown", "Messages that became UnknownMessage."),
    ("events_dropped", "dropped", "Events lost by consumers whose queue was full."),
    ("callback_errors", "callback_errors", "Exceptions raised by callbacks."),
    ("reconnects", "reconnects", "Times the client became READY again after a loss."),
)
"""Name, field of `Stats`, help."""

_GAUGES: Final = (
    ("failed_attempts", "attempts", "Failed attempts to connect since the client was last READY."),
    ("callback_backlog_events", "callback_backlog", "Events waiting for the callback thread."),
    ("rtt_last_seconds", "rtt_last", "Last round trip from a ping to its pong."),
    ("rtt_min_seconds", "rtt_min", "Shortest round trip."),
    ("rtt_avg_seconds", "rtt_avg", "Mean round trip."),
    ("clock_offset_seconds", "clock_offset", "Server time minus local time, by the last pong that had a timestamp."),
)
"""Likewise; a gauge whose field is None is left out."""

_STREAM_COUNTERS: Final = (
    ("stream_dropped_events", "dropped", "Events that the stream lost because it was full."),
    ("stream_conflated_events", "conflated", "Unread prices that the stream replaced by newer ones."),
)
"""Name, attribute of `Stream`, help."""


@define(eq=False)
class _Watched:
    """A client on the list; the weak references keep neither it nor its streams alive."""

    name: str
    client: weakref.ref[Client]
    streams: dict[str, weakref.ref[Stream[Any]]]
    histograms: Sequence[Histogram]
    callback: Callable[[DataEvent], None] | None = None
    removed: bool = False

    def has_ended(self) -> bool:
        """Whether the client is closed, in whichever way, or gone."""
        client = self.client()
        return client is None or client.state is State.CLOSED

    def living(self) -> Client | None:
        """The client, unless removed, forgotten or closed; one that ended with an error is there to be seen."""
        client = None if self.removed else self.client()
        return None if client is None or (client.state is State.CLOSED and client.error is None) else client


class ClientMetrics(Collector):
    """A collector for any number of clients, each under a name of its own: the label ``client``.

    Counters (``_total``): ``allenhark_ws_messages_received`` by ``type``, ``…_received_bytes``, ``…_messages_sent``,
    ``…_invalid_messages``, ``…_unknown_messages``, ``…_events_dropped``, ``…_callback_errors``, ``…_reconnects``; for
    each stream named, ``…_stream_dropped_events`` and ``…_stream_conflated_events``.

    Gauges: ``…_state`` (1 for the ``state`` it is in, 0 for the others), ``…_connected_since_timestamp_seconds`` (while
    READY), ``…_failed_attempts``, ``…_subscriptions``, ``…_callback_backlog_events``, ``…_rtt_last_seconds``,
    ``…_rtt_min_seconds``, ``…_rtt_avg_seconds``, ``…_clock_offset_seconds``; for each stream named,
    ``…_stream_queued_events`` and ``…_stream_high_water_events``.  Queues are looked at when scraped: what came and
    went in between shows in the high water alone.

    Histograms: ``…_rtt_seconds``, each ping that was answered, from the client's beginning on as the counters; with
    ``latency=True`` also

    - ``…_latency_seconds``: from the server's timestamp in a price or a trade to the moment the frame was read here.
      Two clocks are in it: it is wrong by as much as they differ, for which see ``…_clock_offset_seconds``.  Where that
      makes it negative it counts as 0.  Confirmations carry no timestamp and are left out.
    - ``…_callback_delay_seconds``: from that moment to the callback, for every data event: what waiting for the
      callback thread costs.  One clock, the machine's wall clock.

    A client's series end when it is closed or collected; after a terminal error it goes on to be told, as
    ``state="closed"``, while somebody holds it and its name is given to no other.  The metrics hold neither clients nor
    streams.

    Args:
        registry: where to register.

    Raises:
        ConfigurationError: the registry has one already, or another collector of these names.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> ClientMetrics(registry).add(client, "main")
        >>> registry.get_sample_value("allenhark_ws_reconnects_total", {"client": "main"})
        0
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        # Reentrant, and the list only ever edited in place: a finalizer may add a client, or scrape, in here.
        self._lock = threading.RLock()
        self._watched: list[_Watched] = []
        self._latency = _histogram(
            "latency_seconds",
            "From the server's timestamp to the read of the frame, the difference of clocks included.",
        )
        self._delay = _histogram("callback_delay_seconds", "From the read of the frame to the callback.")
        try:
            registry.register(self)
        except ValueError as error:
            raise ConfigurationError("this registry has a ClientMetrics already: add the client to that one") from error

    def add(
        self, client: Client, name: str, *, latency: bool = False, streams: dict[str, Stream[Any]] | None = None
    ) -> None:
        """Tell of a client from now on.

        Args:
            client: in any state but closed.
            name: the label ``client`` of its series.
            latency: measure ``latency_seconds`` and ``callback_delay_seconds``: a callback for every data event, some
                microseconds each on the callback thread (on the background thread with ``inline_callbacks=True``).
            streams: streams of it to tell of, each with its label ``stream``.

        Raises:
            ConfigurationError: the name is no text, blank, or another client's that has not ended; the client is added
                already.
            ClientClosed, or the terminal error: the client has ended.
        """
        for label in (name, *(streams or {})):
            _check_label(label)
        references = {label: weakref.ref(stream) for label, stream in (streams or {}).items()}
        used = (self._latency, self._delay) if latency else ()
        watched = _Watched(name, weakref.ref(client), references, used)
        if client.state is State.CLOSED:
            client.start()  # raises what it ended with
        with self._lock:
            self._forget_the_dead()
            self._make_room(name)
            self._check_new(name, client)
            self._watched.append(watched)
            if latency:
                observer = _latency_observer(self._latency.labels(name), self._delay.labels(name))
                watched.callback = client.on(DataEvent, observer)
                if watched.removed:  # meanwhile
                    client.off(observer)

    def _make_room(self, name: str) -> None:
        """A client that is made anew takes the place of the one that failed, whoever holds that still."""
        self._forget([watched for watched in list(self._watched) if watched.name == name and watched.has_ended()])

    def _check_new(self, name: str, client: Client) -> None:
        for other in list(self._watched):
            if other.name == name or other.client() is client:
                raise ConfigurationError(
                    f"a client {other.name!r} is told of already: choose another name, or remove() it"
                )

    def remove(self, client: Client) -> None:
        """Tell of a client no more; nothing when it is not told of.  Never waits: finalizers may call it."""
        for watched in list(self._watched):
            if watched.client() is client:
                watched.removed = True
                if watched.callback is not None:
                    client.off(watched.callback)

    def _forget_the_dead(self) -> None:
        self._forget([watched for watched in list(self._watched) if watched.living() is None])

    def _forget(self, gone: Sequence[_Watched]) -> None:
        for watched in gone:
            try:
                self._watched.remove(watched)
            except ValueError:  # a finalizer was faster
                continue
            for histogram in watched.histograms:
                histogram.remove(watched.name)

    def describe(self) -> Iterable[Metric]:
        """The names, for the registry to check; no client is looked at."""
        yield from _Families().all
        for histogram in (self._latency, self._delay):
            yield from histogram.describe()

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        with self._lock:
            self._forget_the_dead()
            watched = list(self._watched)
        families = _Families()
        for each in watched:
            client = each.living()
            if client is not None:
                families.read(each, client)
        yield from families.all
        for histogram in (self._latency, self._delay):
            yield from histogram.collect()


class _Families:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        counter, gauge = CounterMetricFamily, GaugeMetricFamily
        self._received = counter(_PREFIX + "messages_received", "Messages off the wire.", labels=("client", "type"))
        self._counters = [(counter(_PREFIX + name, told, labels=("client",)), key) for name, key, told in _COUNTERS]
        self._gauges = [(gauge(_PREFIX + name, told, labels=("client",)), key) for name, key, told in _GAUGES]
        self._state = gauge(_PREFIX + "state", "1 for the state that the client is in.", labels=("client", "state"))
        self._since = gauge(
            _PREFIX + "connected_since_timestamp_seconds", "When the client became READY.", labels=("client",)
        )
        self._subscriptions = gauge(_PREFIX + "subscriptions", "Channels wanted.", labels=("client",))
        both = ("client", "stream")
        self._stream_counters = [
            (counter(_PREFIX + name, told, labels=both), key) for name, key, told in _STREAM_COUNTERS
        ]
        self._queued = gauge(_PREFIX + "stream_queued_events", "Events waiting in the stream.", labels=both)
        self._high_water = gauge(_PREFIX + "stream_high_water_events", "Most events that ever waited.", labels=both)
        self._round_trips = HistogramMetricFamily(
            _PREFIX + "rtt_seconds", "Round trips from a ping to its pong.", labels=("client",)
        )

    @property
    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from (self._state, self._since, self._subscriptions, self._received, self._queued, self._high_water)
        yield from (family for family, _ in self._counters)
        yield from (family for family, _ in self._gauges)
        yield from (family for family, _ in self._stream_counters)
        yield self._round_trips

    def read(self, watched: _Watched, client: Client) -> None:
        """Add what a client has to tell."""
        stats, labels = client.stats, (watched.name,)
        for state in State:
            self._state.add_metric((watched.name, state.value), stats.state is state)
        if stats.connected_since is not None:
            self._since.add_metric(labels, stats.connected_since.timestamp())
        self._subscriptions.add_metric(labels, len(client.subscriptions))
        for kind, count in stats.received_by_type.items():
            self._received.add_metric((watched.name, kind), count)
        for counter, key in self._counters:
            counter.add_metric(labels, getattr(stats, key))
        for gauge, key in self._gauges:
            value = getattr(stats, key)
            if value is not None:
                gauge.add_metric(labels, value)
        trips = client._counters.round_trips  # noqa: SLF001 - no others know how many there were of which length
        buckets = [("+Inf" if length == math.inf else str(length), count) for length, count in trips.within.items()]
        self._round_trips.add_metric(labels, buckets, trips.total)
        for label, reference in watched.streams.items():
            stream = reference()
            if stream is not None:
                self._read_stream(stream, (watched.name, label))

    def _read_stream(self, stream: Stream[Any], labels: Sequence[str]) -> None:
        self._queued.add_metric(labels, stream.qsize())
        self._high_water.add_metric(labels, stream.high_water)
        for counter, key in self._stream_counters:
            counter.add_metric(labels, getattr(stream, key))


def _histogram(name: str, told: str) -> Histogram:
    return Histogram(_PREFIX + name, told, ("client",), registry=None, buckets=_LATENCIES)


def _check_label(label: object) -> None:
    if not isinstance(label, str) or not label:
        raise ConfigurationError(f"a client's or a stream's name must be some text, got {label!r}")


def _latency_observer(latencies: Histogram, delays: Histogram) -> Callable[[DataEvent], None]:
    """A callback for data events; negative times, by clocks that differ or were turned, count as 0."""

    def observe_latency(event: DataEvent) -> None:
        read, sent = event.received_at, _server_time(event)
        if read is not None:
            delays.observe(max(0.0, (datetime.now(timezone.utc) - read).total_seconds()))
            if sent is not None:
                latencies.observe(max(0.0, (read - sent).total_seconds()))

    return observe_latency


def _server_time(event: DataEvent) -> datetime | None:
    """The server's timestamp, where the event has one."""
    if isinstance(event, BotUpdate):
        return event.data.timestamp if isinstance(event.data, TradeExecuted) else None
    return event.timestamp if isinstance(event, PriceUpdate) else None
