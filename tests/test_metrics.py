"""`ClientMetrics`: what a scrape reads, by prometheus_client's own parser, of clients in virtual time."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

pytest.importorskip("prometheus_client", reason="needs the extra metrics")
pytest.importorskip("websockets", reason="needs the extra testing")

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from allenhark_ws import (
    AuthenticationError,
    Bot,
    BotUpdate,
    Client,
    ClientClosed,
    ConfigurationError,
    Price,
    PriceUpdate,
    Stats,
    TradeExecuted,
    TransactionConfirmed,
    Transactions,
)
from allenhark_ws import metrics as module
from allenhark_ws.metrics import ClientMetrics
from allenhark_ws.testing import VirtualSimulator

from .patience import PATIENCE
from .scripted import outcome_aside, price

START = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
ONE = {"client": "main"}


@pytest.fixture
def sim() -> Iterator[VirtualSimulator]:
    """A virtual simulator; its clients are closed afterwards."""
    with VirtualSimulator(start=START) as simulator:
        yield simulator


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ClientMetrics:
    """Metrics, registered."""
    return ClientMetrics(registry)


def scrape(registry: CollectorRegistry) -> dict[str, Metric]:
    """What Prometheus would read, by name."""
    return {family.name: family for family in text_string_to_metric_families(generate_latest(registry).decode())}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """One sample; of the client ``main`` unless the labels say otherwise."""
    return registry.get_sample_value(f"allenhark_ws_{name}", ONE | labels)


def test_every_number_of_the_stats(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """Each field of `Stats` shows as a metric of its own, in the units and spelling that Prometheus wants."""
    client = sim.client()
    metrics.add(client, "main")
    client.on(PriceUpdate, lambda _: 1 / 0)
    client.connect()
    client.subscribe(Price("M"), Price("N"))
    sim.publish(price("M"))
    sim.publish(price("M"))
    for odd in ('{"type": "pong", "timestamp": "2024-01-15T10:30:07Z"}', '{"type": "new"}', "[]"):
        sim.send_raw(odd)
    sim.reset()
    sim.advance(0.5)
    told = {
        ("state", (("state", "ready"),)): 1,
        ("state", (("state", "backoff"),)): 0,
        ("connected_since_timestamp_seconds", ()): START.timestamp() + 0.5,
        ("failed_attempts", ()): 0,
        ("reconnects_total", ()): 1,
        ("messages_received_total", (("type", "price_update"),)): 2,
        ("messages_received_total", (("type", "pong"),)): 3,
        ("messages_received_total", (("type", "new"),)): 1,
        ("received_bytes_total", ()): client.stats.bytes_received,
        ("messages_sent_total", ()): 8,
        ("invalid_messages_total", ()): 1,
        ("unknown_messages_total", ()): 1,
        ("events_dropped_total", ()): 0,
        ("callback_errors_total", ()): 2,
        ("callback_backlog_events", ()): 0,
        ("rtt_last_seconds", ()): 0,
        ("rtt_min_seconds", ()): 0,
        ("rtt_avg_seconds", ()): 0,
        ("clock_offset_seconds", ()): 0,
        ("subscriptions", ()): 2,
    }
    assert {key: value(registry, key[0], **dict(key[1])) for key in told} == told


def test_no_number_is_left_out() -> None:
    """A field that `Stats` gains has to get a metric."""
    read = {key for _, key, _ in (*module._COUNTERS, *module._GAUGES)}
    apart = {"state", "connected_since", "received_by_type", "messages_received"}
    assert read | apart == {each.name for each in attrs.fields(Stats)}
    assert not read & apart


def test_names_follow_the_conventions(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """All begin with the library, counters alone end in ``_total``, all have a help text and some sample."""
    client = sim.client()
    stream = client.stream(Price("M"))
    metrics.add(client.connect(), "main", latency=True, streams={"prices": stream})
    families = scrape(registry)
    for name, family in families.items():
        assert name.startswith("allenhark_ws_")
        assert family.documentation.endswith(".")
        assert family.samples, name
        assert {sample.name.endswith("_total") for sample in family.samples} == {family.type == "counter"}
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}


def test_what_is_unknown_is_left_out(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """A gauge without a value has no sample, rather than a wrong one; counters begin at 0."""
    metrics.add(sim.client(), "main")
    assert value(registry, "state", state="idle") == 1
    for name in ("connected_since_timestamp_seconds", "rtt_last_seconds", "clock_offset_seconds"):
        assert value(registry, name) is None
    assert value(registry, "reconnects_total") == 0


def test_several_clients(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """Each has its name; the registry may serve others beside."""
    Counter("of_the_users", "Of the user's own.", registry=registry)
    clients = [sim.client().connect() for _ in range(3)]
    for number, client in enumerate(clients):
        metrics.add(client, f"c{number}")
        client.subscribe(*(Price(f"M{mint}") for mint in range(number + 1)))
    assert [value(registry, "subscriptions", client=f"c{number}") for number in range(3)] == [1, 2, 3]
    assert scrape(registry)["of_the_users"].samples


def test_a_closed_client_is_told_of_no_more(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """Its series end, histograms too, and its name is free; the others go on."""
    first, other = sim.client().connect(), sim.client().connect()
    metrics.add(first, "main", latency=True)
    metrics.add(other, "other")
    sim.advance(30)
    assert value(registry, "rtt_seconds_count") == 2
    first.close()
    assert not [s for family in scrape(registry).values() for s in family.samples if s.labels["client"] == "main"]
    metrics.add(sim.client(), "main")
    assert value(registry, "rtt_seconds_count") == 0
    assert value(registry, "rtt_seconds_count", client="other") == 2


def test_a_name_is_free_before_the_next_scrape(sim: VirtualSimulator, metrics: ClientMetrics) -> None:
    """A client that is made anew takes the place of the closed one."""
    for _ in range(3):
        client = sim.client().connect()
        metrics.add(client, "main")
        client.close()


def test_a_failed_client_s_name_is_free(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """A loop that makes the next client after an error need not let go of the last one first."""
    held = []
    for _ in range(3):
        held.append(client := sim.client("wrong"))
        metrics.add(client, "main", latency=True)
        client.start()
        sim.advance(0)
        assert isinstance(client.error, AuthenticationError)
    assert value(registry, "state", state="closed") == 1
    with pytest.raises(AuthenticationError):
        metrics.add(held[-1], "main")
    assert value(registry, "state", state="closed") == 1


def test_a_client_that_failed_is_told_of(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """A terminal error is what an alert is for; `remove` ends it."""
    client = sim.client()
    metrics.add(client, "main")
    sim.reject_auth()
    client.start()
    sim.advance(0)
    assert isinstance(client.error, AuthenticationError)
    assert value(registry, "state", state="closed") == 1
    assert value(registry, "failed_attempts") == 1
    metrics.remove(client)
    assert value(registry, "state", state="closed") is None


def test_a_forgotten_client_is_collected(registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """The registry keeps neither a client nor its streams alive, the callback that measures included."""
    client = Client("key", url="ws://127.0.0.1:1")
    stream = client.stream(Price("M"))
    metrics.add(client, "main", latency=True, streams={"prices": stream})
    assert value(registry, "stream_queued_events", stream="prices") == 0
    references = weakref.ref(client), weakref.ref(stream)
    del client, stream
    assert [reference() for reference in references] == [None, None]
    assert value(registry, "state", state="idle") is None
    assert value(registry, "rtt_seconds_count") is None


def test_a_stream_that_is_gone(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """Its series end, its client's do not."""
    client = sim.client()
    stream = client.stream(Price("M"))
    metrics.add(client, "main", streams={"prices": stream})
    del stream
    gc.collect()
    assert value(registry, "stream_queued_events", stream="prices") is None
    assert value(registry, "reconnects_total") == 0


def test_streams(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """What waits, what waited at most, what was lost and what was replaced, for each stream by its name."""
    client = sim.client()
    lossy = client.stream(Price("M"), maxsize=3)
    latest = client.stream(Price("M"), overflow="latest")
    metrics.add(client.connect(), "main", streams={"lossy": lossy, "latest": latest})
    for number in range(5):
        sim.publish(price("M", number))
    lossy.get_nowait()
    names = ("queued_events", "high_water_events", "dropped_events_total", "conflated_events_total")
    read = {s: [value(registry, f"stream_{name}", stream=s) for name in names] for s in ("lossy", "latest")}
    assert read == {"lossy": [2, 3, 2, 0], "latest": [1, 1, 0, 4]}
    assert value(registry, "events_dropped_total") == 2


def test_backlog(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """Events that wait for a callback that does not return are seen while they wait."""
    client, entered, gate = sim.client(), threading.Event(), threading.Event()

    def linger(_update: PriceUpdate) -> None:
        entered.set()
        gate.wait(PATIENCE)

    client.subscribe(Price("M"), callback=linger)
    metrics.add(client.connect(), "main")
    publishing = threading.Thread(target=lambda: sim.publish(price("M")))
    publishing.start()
    assert entered.wait(PATIENCE)
    event = PriceUpdate("M", 1.0, 1.0, START)
    client._loop.sink.put([event] * 7)
    assert value(registry, "callback_backlog_events") == 7
    gate.set()
    publishing.join(PATIENCE)
    sim.advance(0)
    assert value(registry, "callback_backlog_events") == 0


def test_round_trips(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """One for each ping that was answered, the first pong's too, in the bucket of its length."""
    client = sim.client()
    metrics.add(client.connect(), "main")
    sim.mute_pongs()
    sim.advance(30)
    sim.advance(0.2)
    sim.mute_pongs(False)
    sim.advance(30)
    assert value(registry, "rtt_seconds_count") == 3
    assert value(registry, "rtt_seconds_sum") == pytest.approx(0.2)
    assert [value(registry, "rtt_seconds_bucket", le=bound) for bound in ("0.001", "0.1", "0.25", "+Inf")] == [
        *(2, 2),
        *(3, 3),
    ]
    assert value(registry, "latency_seconds_count") is None


def test_each_round_trip_counts_once(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """When several pongs come together, and when one comes that nobody asked for."""
    client = sim.client(heartbeat_interval=4.0)
    metrics.add(client.connect(), "main")
    sim.mute_pongs()
    sim.advance(8.5)
    sim.mute_pongs(False)
    sim.send_raw('{"type": "pong"}')
    assert client.stats.received_by_type["pong"] == 4
    assert value(registry, "rtt_seconds_count") == 3
    assert value(registry, "rtt_seconds_sum") == 0.0 + 4.5 + 0.5
    assert value(registry, "rtt_avg_seconds") == pytest.approx(5 / 3)


def test_the_buckets_are_the_same(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """Those of round trips, which the client keeps, and those of latencies, which the metrics keep."""
    metrics.add(sim.client(), "main", latency=True)
    families = scrape(registry)
    bounds = [
        [sample.labels["le"] for sample in families[f"allenhark_ws_{name}"].samples if "le" in sample.labels]
        for name in ("rtt_seconds", "latency_seconds", "callback_delay_seconds")
    ]
    assert len(bounds[0]) == 14
    assert bounds[0] == bounds[1] == bounds[2]


def test_latency(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """From the server's timestamp to the read, for prices and trades; a clock that is ahead makes it 0, never less."""
    client = sim.client()
    metrics.add(client, "main", latency=True)
    client.subscribe(Price("M"), Bot("B"), Transactions("W"))
    client.connect()
    for seconds in (0.05, 2.0, -3.0):
        sent = (START - timedelta(seconds=seconds)).isoformat()
        sim.publish(price("M") | {"timestamp": sent})
        trade = {"signature": "s", "profit": 1.0, "timestamp": sent}
        sim.publish({"type": "bot_update", "botId": "B", "event": "trade_executed", "data": trade})
    sim.publish({"type": "bot_update", "botId": "B", "event": "stopped", "data": {}})
    sim.publish({"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": 1})
    assert value(registry, "latency_seconds_count") == 6
    assert value(registry, "latency_seconds_sum") == pytest.approx(2 * (0.05 + 2.0))
    assert [value(registry, "latency_seconds_bucket", le=le) for le in ("0.001", "0.05", "1.0", "2.5")] == [2, 4, 4, 6]
    assert value(registry, "callback_delay_seconds_count") == 8


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(PriceUpdate("M", 1.0, 1.0, START), START, id="price"),
        pytest.param(BotUpdate("B", "trade_executed", TradeExecuted("s", 1.0, START)), START, id="trade"),
        pytest.param(BotUpdate("B", "stopped", {"timestamp": START}), None, id="other of a bot's"),
        pytest.param(TransactionConfirmed("s", "confirmed", 1), None, id="confirmation"),
    ],
)
def test_server_time(event: Any, expected: datetime | None) -> None:
    """Only what the vendor's page documents as a timestamp counts as one."""
    assert module._server_time(event) == expected


def test_an_event_made_by_hand_is_no_measurement(registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """It was never read from a socket."""
    observe = module._latency_observer(metrics._latency.labels("main"), metrics._delay.labels("main"))
    observe(PriceUpdate("M", 1.0, 1.0, START))
    assert value(registry, "latency_seconds_count") == value(registry, "callback_delay_seconds_count") == 0


def test_removed_it_is_called_back_no_more(sim: VirtualSimulator, metrics: ClientMetrics) -> None:
    """Removing again changes nothing."""
    client = sim.client()
    metrics.add(client, "main", latency=True)
    metrics.remove(client)
    metrics.remove(client)
    event = PriceUpdate("M", 1.0, 1.0, START)
    assert client._router.callbacks_for(event) == ()
    metrics.add(client, "again")


@pytest.mark.parametrize("aside", [False, True])
def test_removed_while_it_is_being_added(
    sim: VirtualSimulator, metrics: ClientMetrics, monkeypatch: pytest.MonkeyPatch, aside: bool
) -> None:
    """By a finalizer or by another thread: it is called back no more, however far adding it had come."""
    client = sim.client()
    register = client.on

    def register_late(kind: Any, callback: Any) -> Any:
        if aside:
            outcome_aside(lambda: metrics.remove(client))
        else:
            metrics.remove(client)
        return register(kind, callback)

    monkeypatch.setattr(client, "on", register_late)
    assert outcome_aside(lambda: metrics.add(client, "main", latency=True)) is None
    assert client._router.callbacks_for(PriceUpdate("M", 1.0, 1.0, START)) == ()


class Meddling(list[Any]):
    """The list of clients, which has a finalizer run when looked at for the n-th time (three for the first client)."""

    def __init__(self, looks: int, meddle: Callable[[], object]) -> None:
        super().__init__()
        self._looks, self._meddle = looks, meddle

    def __iter__(self) -> Iterator[Any]:
        self._looks -= 1
        if self._looks == 0:
            self._meddle()
        return super().__iter__()


@pytest.mark.parametrize("looks", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("verb", ["remove", "add", "scrape"])
def test_a_finalizer_in_the_midst_of_it(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics, looks: int, verb: str
) -> None:
    """Of a client's owner, on a thread that scrapes or adds: it does not wait for itself, and nobody is lost."""
    one, other, third = sim.client(), sim.client(), sim.client()
    verbs = {
        "remove": lambda: metrics.remove(one),
        "add": lambda: metrics.add(third, "third"),
        "scrape": lambda: list(metrics.collect()),
    }

    def work() -> None:
        metrics._watched = Meddling(looks, verbs[verb])
        metrics.add(one, "one")
        metrics.add(other, "other")
        list(metrics.collect())

    assert outcome_aside(work) is None
    told = {name for name in ("one", "other", "third") if value(registry, "reconnects_total", client=name) == 0}
    expected = {"remove": {"other"}, "add": {"one", "other", "third"}, "scrape": {"one", "other"}}
    assert told == expected[verb]


def test_mistakes(sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics) -> None:
    """Each is told at once, with what to do."""
    client = sim.client()
    metrics.add(client, "main")
    with pytest.raises(ConfigurationError, match="has a ClientMetrics already"):
        ClientMetrics(registry)
    with pytest.raises(ConfigurationError, match="'main' is told of already: choose another name"):
        metrics.add(sim.client(), "main")
    with pytest.raises(ConfigurationError, match=r"'main' is told of already: .* or remove\(\) it"):
        metrics.add(client, "again")
    for name in ("", 7):
        with pytest.raises(ConfigurationError, match="must be some text"):
            metrics.add(sim.client(), name)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="must be some text"):
        metrics.add(sim.client(), "other", streams={"": client.stream()})
    client.close()
    with pytest.raises(ClientClosed):
        metrics.add(client, "closed")
    with pytest.raises(AuthenticationError):
        sim.client("wrong").connect()


def test_registering_looks_at_no_client(registry: CollectorRegistry) -> None:
    """The registry learns the names from `describe`."""
    described = {metric.name for metric in ClientMetrics(registry).describe()}
    assert described == {metric.name for metric in registry.collect()}


def test_scrapes_while_clients_come_and_go(
    sim: VirtualSimulator, registry: CollectorRegistry, metrics: ClientMetrics
) -> None:
    """A scrape on another thread meets no half-made state."""
    over, errors = threading.Event(), list[BaseException]()

    def scrape_on() -> None:
        try:
            while not over.is_set():
                scrape(registry)
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    scraping = threading.Thread(target=scrape_on)
    scraping.start()
    for number in range(50):
        client = sim.client().connect()
        metrics.add(client, f"c{number}", latency=True)
        if number % 2:
            metrics.remove(client)
        client.close()
    over.set()
    scraping.join(PATIENCE)
    assert not scraping.is_alive()
    assert errors == []


def test_without_the_extra_one_clear_line() -> None:
    """Importing it says what to install."""
    code = "import sys; sys.modules['prometheus_client'] = None; import allenhark_ws.metrics"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told = 'ImportError: the metrics need the package prometheus-client: pip install "allenhark-ws[metrics]"'
    assert done.stderr.splitlines()[-1] == told
