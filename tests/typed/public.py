"""The public names as a user's program has them: what each gives, and what must be an error.

mypy and pyright, both strict, check this file; nothing runs it, and pytest does not collect it.  A line that has to be
an error carries both checkers' ignore: should the error vanish, the ignore is unnecessary, and that is one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pandas as pd
from typing_extensions import assert_type

from allenhark_ws import (
    AllenHarkError,
    AuthenticationError,
    Backoff,
    Bot,
    BotUpdate,
    CallbackError,
    CertificateRejected,
    Channel,
    Client,
    ClientClosed,
    Closed,
    ConfigurationError,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    DataEvent,
    Disconnected,
    Event,
    EventsDropped,
    FlushTimeout,
    Gap,
    HandshakeRejected,
    InvalidMessage,
    LifecycleEvent,
    Pong,
    Price,
    PriceUpdate,
    Reconnecting,
    RecordingError,
    RequestRejected,
    ServerError,
    SlowCallback,
    SlowConsumer,
    State,
    Stats,
    Stream,
    StreamClosed,
    Subscription,
    TradeExecuted,
    TransactionConfirmed,
    Transactions,
    UnknownMessage,
    replay,
    to_dataframe,
)
from allenhark_ws.metrics import ClientMetrics
from allenhark_ws.notebook import Watch
from allenhark_ws.recording import Converted, Reader, Recorder, convert, read
from allenhark_ws.testing import FaultProxy, Simulator, VirtualSimulator

PRICE = Price("mint")
BOT = Bot("bot")
WALLET = Transactions("wallet")
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def on_price(update: PriceUpdate) -> int:
    """Take one class."""
    return len(update.mint)


def on_gap(gap: Gap) -> None:
    """Take another."""
    print(gap.duration)


def on_two(event: PriceUpdate | BotUpdate) -> None:
    """Take either of two."""
    print(event.channel)


def on_data(event: DataEvent) -> None:
    """Take a branch."""
    print(event.received_at)


def on_anything(event: Event, *, prefix: str = "") -> str:
    """Take all."""
    return f"{prefix}{event}"


# --- Client


def making_a_client(context: ssl.SSLContext) -> None:
    """Every setting has its type; the verbs that give the client give its own class."""
    client = Client(
        lambda: "key", backoff=Backoff(maximum=5), callback_overflow="block", ssl_context=context, proxy=False
    )
    assert_type(client, Client)
    assert_type(client.start(), Client)
    assert_type(client.connect(timeout=3), Client)
    assert_type(client.flush(), float)
    assert_type(client.state, State)
    assert_type(client.error, AllenHarkError | None)
    assert_type(client.subscriptions, frozenset[Channel])
    assert_type(client.stats, Stats)
    assert_type(client.stats.rtt_avg, float | None)
    assert_type(client.stats.received_by_type, Mapping[str, int])
    assert_type(client.watch(), Watch)
    with Client() as entered:
        assert_type(entered, Client)
    Client(proxy=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Client(callback_overflow="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.stats.attempts = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


class MyClient(Client):
    """A subclass keeps its own name through the verbs."""

    def extra(self) -> None:
        """Do more."""


def a_subclass(client: MyClient) -> None:
    """`connect` and ``with`` give it as it is."""
    client.connect().extra()
    with client as entered:
        entered.extra()


def subscribing(client: Client, channels: list[Channel]) -> None:
    """The callback must take what the channels bring."""
    assert_type(client.subscribe(PRICE, BOT, *channels), Subscription)
    with client.subscribe(PRICE, callback=on_price) as subscription:
        assert_type(subscription.channels, tuple[Channel, ...])
    client.subscribe(PRICE, BOT, callback=on_two)
    client.subscribe(PRICE, BOT, WALLET, callback=on_data)
    client.subscribe(*channels, callback=on_data)
    client.subscribe(PRICE, callback=on_anything)
    client.subscribe(PRICE, callback=lambda update: print(update.price, update.volume))
    client.unsubscribe(PRICE, BOT, *channels)
    client.subscribe(BOT, callback=on_price)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.subscribe(PriceUpdate)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    client.subscribe("mint")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# --- Callbacks


def calling_back(client: Client, kind: type[Event] | Channel, branch: type[LifecycleEvent]) -> None:
    """`on` knows what it calls a function with, and gives the function back."""
    assert_type(client.on(PriceUpdate, on_price), Callable[[PriceUpdate], int])
    client.on(PRICE, on_price)
    client.on(Gap, on_gap)
    client.on(PriceUpdate, on_data)
    client.on(kind, on_anything)
    client.on(branch, on_anything)
    client.on(PriceUpdate, print)
    seen: list[Event] = []
    client.on(PriceUpdate, seen.append)
    client.on(Gap, lambda gap: print(gap.duration, gap.cause.reason))
    client.on(BOT, lambda update: print(update.bot_id))
    for each in (Connected, Disconnected):
        client.on(each, on_anything)
    client.off(on_price)


def calling_back_wrongly(client: Client, kind: type[Event] | Channel) -> None:
    """A function for other events is refused, and so is one that needs more than the event."""
    client.on(Gap, on_price)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.on(BOT, on_price)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.on(DataEvent, on_price)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.on(kind, on_price)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.on("price", print)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def lambdas(client: Client) -> None:
    """The argument of a lambda is known, so its mistakes are."""
    client.on(Gap, lambda gap: str(gap.cause))
    client.on(BOT, lambda update: update.bot_id.upper())
    client.on(Gap, lambda _, ended=client: ended.close())
    client.subscribe(PRICE, callback=lambda update: update.mint.upper())
    client.on(Gap, lambda gap: on_gap(str(gap.cause)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.on(PRICE, lambda update: on_gap(update))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.subscribe(BOT, callback=lambda update: on_price(update))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def decorating(client: Client) -> None:
    """The decorator keeps the function's signature, names and defaults included."""

    @client.on(PriceUpdate)
    def one(update: PriceUpdate, *, digits: int = 2) -> str:
        return f"{update.price:.{digits}f}"

    @client.on(Connected)
    @client.on(Disconnected)
    def two(event: Connected | Disconnected) -> None:
        print(event)

    @client.on(PRICE)
    def of_a_channel(update: PriceUpdate) -> Decimal:
        return Decimal(update.price)

    @client.on(Gap)
    @client.on(PriceUpdate)
    def all_of_them(event: Event) -> None:
        print(event)

    update = PriceUpdate("mint", 1.5, 2.0, NOW)
    assert_type(one(update=update, digits=3), str)
    assert_type(of_a_channel(update), Decimal)
    two(event=Connected(1, 0.1))
    all_of_them(event=update)
    one("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def decorating_wrongly(client: Client) -> None:
    """As for a plain call."""

    @client.on(PriceUpdate)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def other(gap: Gap) -> None:
        print(gap)

    @client.on(BOT)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def of_another_channel(update: PriceUpdate) -> None:
        print(update)

    @client.on(PriceUpdate)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def needs_more(update: PriceUpdate, digits: int) -> None:
        print(update, digits)

    print(other, of_another_channel, needs_more)


# --- Streams


def streaming(client: Client, prices: list[Price], channel: Channel, kinds: list[type[Event] | Channel]) -> None:
    """A stream is of what its kinds bring."""
    assert_type(client.stream(), Stream[DataEvent])
    assert_type(client.stream(PRICE), Stream[PriceUpdate])
    assert_type(client.stream(BOT, overflow="latest"), Stream[BotUpdate])
    assert_type(client.stream(WALLET, maxsize=5), Stream[TransactionConfirmed])
    assert_type(client.stream(*prices), Stream[PriceUpdate])
    assert_type(client.stream(PRICE, PRICE), Stream[PriceUpdate])
    assert_type(client.stream(PRICE, BOT), Stream[PriceUpdate | BotUpdate])
    assert_type(client.stream(PriceUpdate, Gap), Stream[PriceUpdate | Gap])
    assert_type(client.stream(PRICE, Gap), Stream[PriceUpdate | Gap])
    assert_type(client.stream(PRICE, BOT, Gap), Stream[PriceUpdate | BotUpdate | Gap])
    assert_type(client.stream(DataEvent, LifecycleEvent), Stream[DataEvent | LifecycleEvent])
    assert_type(client.stream(channel), Stream[DataEvent])
    assert_type(client.stream(*kinds), Stream[Event])
    client.stream("mint")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.stream(PRICE, overflow="drop")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def read_all(stream: Stream[Event]) -> None:
    """A reader of any events reads a stream of prices, too."""
    for event in stream:
        print(event)


def reading(client: Client) -> None:
    """Each way of reading gives the stream's events."""
    with client.stream(PRICE, Gap) as stream:
        assert_type(stream.get(timeout=1), PriceUpdate | Gap)
        assert_type(stream.get_nowait(), PriceUpdate | Gap)
        assert_type(stream.get_batch(10), list[PriceUpdate | Gap])
        assert_type(iter(stream), Iterator[PriceUpdate | Gap])
        for event in stream:
            if isinstance(event, Gap):
                assert_type(event.channels, frozenset[Channel])
            else:
                assert_type(event.price, float | Decimal)
        assert_type(stream.client, Client)
        assert_type(stream.dropped, int)
        assert_type(stream.to_dataframe(), pd.DataFrame)
    read_all(client.stream(PRICE))
    client.stream(PRICE).get().duration  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    prices: Stream[PriceUpdate] = client.stream(BOT)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(prices)


def looking_up(client: Client, channel: Channel) -> None:
    """`latest` gives what the channel brings, or None."""
    assert_type(client.latest(PRICE), PriceUpdate | None)
    assert_type(client.latest(BOT), BotUpdate | None)
    assert_type(client.latest(WALLET), TransactionConfirmed | None)
    assert_type(client.latest(channel), DataEvent | None)
    client.latest(PRICE).price  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    client.latest(PriceUpdate)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- Events and errors


def events_off_the_wire(event: DataEvent | Pong | ServerError | UnknownMessage | InvalidMessage) -> None:
    """What they share, and what each has."""
    assert_type(event.raw, bytes | None)
    assert_type(event.received_at, datetime | None)
    assert_type(event.extra, Mapping[str, Any])
    assert_type(event.channel, Channel | None)
    if isinstance(event, PriceUpdate):
        assert_type(event.timestamp, datetime)
    elif isinstance(event, TransactionConfirmed):
        assert_type(event.channel, Transactions | None)
        assert_type(event.slot, int)
    elif isinstance(event, Pong):
        assert_type(event.timestamp, datetime | None)
    elif isinstance(event, ServerError):
        assert_type(event.code, int | str | None)
    PriceUpdate("mint", "1.5", 2.0, NOW)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def the_data_of_a_bot(update: BotUpdate) -> None:
    """A trade or a mapping, told apart by isinstance."""
    assert_type(update.data, TradeExecuted | Mapping[str, Any])
    if isinstance(update.data, TradeExecuted):
        assert_type(update.data.profit, float | Decimal)
    else:
        assert_type(update.data, Mapping[str, Any])
    update.data["profit"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


def events_of_the_client(event: Event) -> None:
    """The facts of lifecycle events."""
    if isinstance(event, Disconnected):
        assert_type(event.cause, ConnectionLost)
        assert_type(event.will_retry_in, float | None)
    elif isinstance(event, Reconnecting):
        assert_type(event.cause, ConnectionLost | ConnectionFailed | ConfigurationError)
    elif isinstance(event, Closed):
        assert_type(event.error, AllenHarkError | None)
    elif isinstance(event, CallbackError):
        assert_type(event.event, Event)
        assert_type(event.error, BaseException)
    elif isinstance(event, SlowCallback):
        assert_type(event.callback, Callable[..., object])
    elif isinstance(event, EventsDropped):
        assert_type(event.count, int)


def errors(client: Client) -> None:
    """Each error's facts are attributes."""
    try:
        client.connect()
    except AuthenticationError as error:
        assert_type(error.code, int | str | None)
    except CertificateRejected as error:
        assert_type(error.host, str)
    except HandshakeRejected as error:
        assert_type(error.status, int)
        assert_type(error.headers, Mapping[str, str])
        assert_type(error.retry_after, float | None)
        assert_type(error.reason, str)
    except ConnectTimeout as error:
        assert_type(error.timeout, float)
        assert_type(error.attempts, int | None)
    except RequestRejected as error:
        assert_type(error.errors, tuple[ServerError, ...])
    except FlushTimeout as error:
        assert_type(error.timeout, float)
    except SlowConsumer as error:
        assert_type((error.consumer, error.maxsize), tuple[str, int])
    except RecordingError as error:
        assert_type(error.line, int | None)
    except (StreamClosed, ClientClosed, ConnectionLost) as error:
        assert_type(str(error), str)


# --- Around the client


def recording(client: Client) -> None:
    """What is recorded, and how it is read."""
    with client.record("day.jsonl.gz", append=True) as recorder:
        assert_type(recorder, Recorder)
        assert_type(recorder.frames, int)
    assert_type(read("day.jsonl.gz"), Reader)
    for at, raw in read("day.jsonl.gz"):
        assert_type(at, datetime)
        assert_type(raw, bytes)
    assert_type(convert("day.jsonl", "day.csv"), Converted)
    client.record(b"day.jsonl")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def replaying() -> None:
    """A replay is a client."""
    with replay(["a.jsonl", "b.jsonl"], speed=0, decimal=True) as client:
        assert_type(client, Client)
        assert_type(client.stream(PRICE), Stream[PriceUpdate])
        client.on(PriceUpdate, on_price)
        client.on(Gap, on_price)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert_type(to_dataframe(client.stream().get_batch(10)), pd.DataFrame)


def testing() -> None:
    """The simulators give what a test asks for."""
    with Simulator(tls=True) as simulator, FaultProxy(simulator.url) as proxy:
        assert_type(simulator.ssl_context, ssl.SSLContext | None)
        assert_type(simulator.received, list[dict[str, Any]])
        assert_type(simulator.subscriptions, frozenset[Channel])
        assert_type(simulator.wait_for(lambda: simulator.connections), int)
        assert_type(simulator.publish({"type": "price_update"}), int)
        assert_type(proxy.url, str)
    with VirtualSimulator() as virtual:
        assert_type(virtual.client(decimal=True), Client)
        assert_type(virtual.now, datetime)


def measuring(client: Client) -> None:
    """Metrics take streams of any events."""
    metrics = ClientMetrics()
    metrics.add(client, "main", latency=True, streams={"prices": client.stream(PRICE)})
    metrics.remove(client)
    metrics.add("main", client)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
