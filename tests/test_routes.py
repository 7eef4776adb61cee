"""Routing tables: by class, base class and channel, in order, without duplicates, flat and bounded."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable, Hashable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws import _routes
from allenhark_ws._routes import Kind, RouteTable, check_callable, check_callback, check_kind, event_key, key_of
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.events import (
    BotUpdate,
    Closed,
    Connected,
    DataEvent,
    Event,
    LifecycleEvent,
    Pong,
    PriceUpdate,
    ServerEvent,
    TransactionConfirmed,
)

from .fakes import Meddling

BASES = (DataEvent, ServerEvent, LifecycleEvent)
WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


def price(mint: str) -> PriceUpdate:
    """A price of a mint."""
    return PriceUpdate(mint, 1.0, 0.0, WHEN)


def transaction(wallet: str | None) -> TransactionConfirmed:
    """A confirmation, its wallet known or not."""
    return TransactionConfirmed("s", "confirmed", 1, channel=None if wallet is None else Transactions(wallet))


def table(*registrations: tuple[Kind, str]) -> RouteTable[str]:
    """A table of named targets, their tokens numbered."""
    found: RouteTable[str] = RouteTable()
    for token, (kind, target) in enumerate(registrations):
        found.add(token, [kind], target)
    return found


class CountedKey(str):
    """A mint that counts how often it is hashed or compared."""

    __slots__ = ()
    operations = 0

    def __hash__(self) -> int:
        CountedKey.operations += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedKey.operations += 1
        return super().__eq__(other)


@pytest.mark.parametrize("kind", [Event, PriceUpdate, *BASES, Price("m"), Bot("b"), Transactions("w")])
def test_kinds(kind: object) -> None:
    """Event classes and the three channels are kinds."""
    assert check_kind(kind) is kind


@pytest.mark.parametrize(("kind", "named"), [(int, "the class int"), ("Price", "got str"), (Price, "the class Price")])
def test_no_kinds(kind: object, named: str) -> None:
    """Everything else is refused, with a text that says what it was."""
    with pytest.raises(TypeError, match=named):
        check_kind(kind)


def test_base_channel_is_no_kind() -> None:
    """The base class names nothing that could be found."""
    with pytest.raises(TypeError, match="got Channel"):
        check_kind(Channel())
    with pytest.raises(TypeError, match="got Channel"):
        key_of(Channel())


async def awaited(event: Event) -> None:
    """Does nothing unless it is awaited."""


def test_callbacks() -> None:
    """What a call runs with one event; of others it is said what they are."""
    for callback in (print, lambda event: event, Event, functools.partial(print, "a")):
        check_callable(callback)
        check_callback(callback)
    for wrong in (None, "print", 7):
        for check in (check_callable, check_callback):
            with pytest.raises(TypeError, match=f"must be callable with one event, got {type(wrong).__name__}"):
                check(wrong)
    check_callable(awaited)
    for lazy in (awaited, functools.partial(awaited)):
        with pytest.raises(TypeError, match="must be a plain function: a call does not run an async one"):
            check_callback(lazy)


def test_a_subclass_of_a_channel_is_no_kind() -> None:
    """It would equal no other channel of the same id, and the server would be told twice of what it knows once."""

    class Token(Price):
        pass

    with pytest.raises(TypeError, match="got Token"):
        check_kind(Token("m"))
    with pytest.raises(TypeError, match="got Token"):
        key_of(Token("m"))


@pytest.mark.parametrize("base", [PriceUpdate, LifecycleEvent])
def test_a_subclass_of_an_event_class_is_no_kind(base: type[Event]) -> None:
    """It would be waited for in vain, since nothing is ever of it; its parent is named, however far that is."""
    mine = type("Mine", (type("Between", (base,), {}),), {})
    told = f"^no event is ever of the class Mine: pass {base.__name__}, which it derives from$"
    with pytest.raises(TypeError, match=told):
        check_kind(mine)


@pytest.mark.parametrize(
    ("event", "channel"),
    [
        (price("m"), Price("m")),
        (BotUpdate("b", "e", {}), Bot("b")),
        (transaction("w"), Transactions("w")),
    ],
)
def test_events_and_channels_have_the_same_key(event: Event, channel: Channel) -> None:
    """An event is found under its channel."""
    assert key_of(channel) == (type(event), event_key(event))


@pytest.mark.parametrize("event", [transaction(None), Pong(), Closed()])
def test_events_without_a_key(event: Event) -> None:
    """An unknown wallet, and events that have no channel."""
    assert event_key(event) is None


@pytest.mark.parametrize("wrong", ["_mint", "_bot", "_wallet"])
def test_key_readers_are_strict(wrong: str) -> None:
    """A reader of one class finds no key in another."""
    assert getattr(_routes, wrong)(Pong()) is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Event, {"price", "bot", "transaction", "pong", "connected"}),
        (DataEvent, {"price", "bot", "transaction"}),
        (ServerEvent, {"pong"}),
        (LifecycleEvent, {"connected"}),
        (PriceUpdate, {"price"}),
        (Price("m"), {"price"}),
        (Price("other"), set()),
        (Bot("b"), {"bot"}),
        (Transactions("w"), {"transaction"}),
    ],
)
def test_a_kind_matches_its_events_alone(kind: Kind, expected: set[str]) -> None:
    """Base classes match their children, channels their own events."""
    events = {
        "price": price("m"),
        "bot": BotUpdate("b", "e", {}),
        "transaction": transaction("w"),
        "pong": Pong(),
        "connected": Connected(1, 0.1),
    }
    routes = table((kind, "target"))
    assert {name for name, event in events.items() if routes.match(event) == ("target",)} == expected
    assert all(routes.match(event) in ((), ("target",)) for event in events.values())


def test_order_of_registration() -> None:
    """Whatever the kinds are, targets come in the order in which they were registered."""
    routes = table((Price("m"), "1"), (Event, "2"), (PriceUpdate, "3"), (Price("m"), "4"), (Price("n"), "5"))
    assert routes.match(price("m")) == ("1", "2", "3", "4")
    assert routes.match(price("n")) == ("2", "3", "5")
    assert routes.match(price("o")) == ("2", "3")


def test_overlapping_kinds_give_a_target_once() -> None:
    """A target registered several times, under one token or many, is found once, at its first place."""
    routes: RouteTable[str] = RouteTable()
    first, second = "first", "second"
    routes.add(1, [Price("m"), Price("m"), PriceUpdate, DataEvent], first)
    routes.add(2, [Event], second)
    routes.add(3, [Event], first)
    assert routes.match(price("m")) == (first, second)
    routes.remove(1)
    assert routes.match(price("m")) == (second, first)


class Handler:
    """Handlers that are all equal, but not the same."""

    def __call__(self, event: Event) -> None:
        """Take an event."""

    def method(self, event: Event) -> None:
        """Take an event."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handler)

    __hash__ = None  # type: ignore[assignment]


def test_equal_methods_are_one_target() -> None:
    """`handler.method` is a new object every time, and the same callback; so are the methods of built-in objects."""
    handler, events = Handler(), list[Event]()
    routes: RouteTable[Any] = RouteTable()
    for token, target in enumerate([handler.method, handler.method, events.append, events.append]):
        routes.add(token, [Event], target)
    assert routes.match(Pong()) == (handler.method, events.append)
    assert routes.tokens_of(handler.method) == [0, 1]
    assert routes.tokens_of(events.append) == [2, 3]


def test_equal_objects_are_two_targets() -> None:
    """Two handlers that compare equal are two: neither is called for the other, nor removed with it."""
    one, other = Handler(), Handler()
    routes: RouteTable[Any] = RouteTable()
    for token, target in enumerate([one, other, one.method, other.method]):
        routes.add(token, [Event], target)
    assert [id(target) for target in routes.match(Pong())[:2]] == [id(one), id(other)]
    assert len(routes.match(Pong())) == 4
    assert (routes.tokens_of(one), routes.tokens_of(other)) == ([0], [1])
    assert (routes.tokens_of(one.method), routes.tokens_of(other.method)) == ([2], [3])
    assert routes.tokens_of(Handler()) == []


def test_slot_wrappers_and_partials() -> None:
    """A method of a C type is equal to itself; two partials of one function are two callbacks."""
    number = 1
    partials = [functools.partial(print), functools.partial(print)]
    routes: RouteTable[Any] = RouteTable()
    for token, target in enumerate([number.__str__, number.__str__, *partials]):
        routes.add(token, [Event], target)
    assert len(routes.match(Pong())) == 3


def test_transaction_of_a_known_wallet() -> None:
    """It goes to that wallet's targets and to those of the class."""
    routes = table((Transactions("v"), "v"), (Transactions("w"), "w"), (TransactionConfirmed, "all"))
    assert routes.match(transaction("v")) == ("v", "all")
    assert routes.match(transaction("x")) == ("all",)


def test_transaction_of_an_unknown_wallet_goes_to_all() -> None:
    """It may be anybody's: every target of a wallet gets it, each once."""
    routes = table((Transactions("v"), "v"), (Transactions("w"), "w"), (TransactionConfirmed, "all"), (Price("w"), "p"))
    assert routes.match(transaction(None)) == ("v", "w", "all")
    routes.remove(0)
    assert routes.match(transaction(None)) == ("w", "all")
    routes.add(9, [Transactions("x"), Transactions("v")], "both")
    assert routes.match(transaction(None)) == ("w", "all", "both")


def test_remove_is_idempotent_and_exact() -> None:
    """One token goes with all its kinds, once; the others stay."""
    routes = table((Price("m"), "1"), (PriceUpdate, "2"))
    assert routes.targets() == ["1", "2"]
    routes.remove(0)
    routes.remove(0)
    assert routes.match(price("m")) == ("2",)
    assert not routes.is_empty
    routes.remove(1)
    assert routes.match(price("m")) == ()
    assert routes.targets() == []
    assert routes.is_empty


def test_narrow_takes_channels_away() -> None:
    """What is left of a registration stays; one of which nothing is left is gone."""
    routes: RouteTable[str] = RouteTable()
    routes.add("t", [Price("a"), Price("b")], "target")
    routes.narrow("t", [Price("a"), Price("unknown")])
    assert routes.match(price("a")) == ()
    assert routes.match(price("b")) == ("target",)
    routes.narrow("t", [Price("b")])
    assert routes.targets() == []
    routes.narrow("t", [Price("b")])
    routes.remove("t")
    assert routes.match(price("b")) == ()


def test_narrow_does_not_look_at_what_stays() -> None:
    """One channel of a thousand goes with as many operations on its key as one of two."""
    counts = []
    for channels in (2, 1_000):
        held = [Price(CountedKey(f"m{number}")) for number in range(channels)]
        routes: RouteTable[str] = RouteTable()
        routes.add("t", held, "target")
        CountedKey.operations = 0
        routes.narrow("t", held[:1])
        counts.append(CountedKey.operations)
        assert not routes.knows(PriceUpdate, "m0")
        assert routes.knows(PriceUpdate, "m1")
    assert counts[0] == counts[1] > 0


def test_class_of_the_users_own_matches_nothing() -> None:
    """An event class that the client never makes is no error."""

    class Own(Event):
        pass

    routes = table((Event, "all"), (Own, "own"))
    assert routes.match(Own()) == ()


def test_keys_of_a_hostile_server_leave_no_trace() -> None:
    """Distinct mints that nobody registered do not make the table grow."""
    routes = table((Price("m"), "m"), (PriceUpdate, "all"))
    for number in range(1_000):
        assert routes.match(price(f"hostile-{number}")) == ("all",)
    routes.match(price("m"))
    assert len(routes._routes[PriceUpdate].merged) == 2
    assert len(routes._routes[PriceUpdate].keyed) == 1


def test_lookup_does_not_depend_on_the_number_of_keys() -> None:
    """Ten thousand keys cost as many operations on the key as one does."""
    counts = []
    for keys in (1, 10_000):
        routes = table(*[(Price(f"m{number}"), "t") for number in range(keys)])
        event = price(CountedKey("m0"))
        routes.match(event)
        CountedKey.operations = 0
        assert routes.match(event) == ("t",)
        counts.append(CountedKey.operations)
    assert counts[0] == counts[1] > 0


def test_found_tuples_are_kept_until_an_edit() -> None:
    """Nothing is merged twice without need; an edit is seen by the next lookup."""
    routes = table((Price("m"), "1"), (Event, "2"))
    assert routes.match(price("m")) is routes.match(price("m"))
    routes.add(9, [PriceUpdate], "3")
    assert routes.match(price("m")) == ("1", "2", "3")


def test_finalizer_may_edit_the_table_it_interrupts() -> None:
    """The collector may run in the middle of an edit or a lookup, and what it finalizes may close a subscription."""
    routes = table(*[(Price("m"), str(number)) for number in range(50)], (Event, "all"))
    victims = list(range(50))

    def finalize(phase: str, _info: dict[str, int]) -> None:
        if phase == "start" and victims:
            routes.remove(victims.pop())

    thresholds = gc.get_threshold()
    gc.callbacks.append(finalize)
    gc.set_threshold(5, 1, 1)
    try:
        for number in range(100, 400):
            routes.add(number, [Price("m")], str(number))
            assert routes.match(price("m"))[-1] == str(number)
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(finalize)
    for victim in victims:
        routes.remove(victim)
    assert routes.match(price("m")) == ("all", *map(str, range(100, 400)))


def test_readers_and_writers_on_several_threads() -> None:
    """While others edit, a reader finds what stands, in order, without a lock."""
    routes = table((Event, "first"))
    begin = threading.Barrier(3)
    wrong: list[tuple[str, ...]] = []

    def edit(token: int) -> None:
        begin.wait(60.0)
        for _ in range(300):
            routes.add(token, [Price("m"), Price(f"m{token}")], "second")
            routes.remove(token)

    threads = [threading.Thread(target=edit, args=(token,), daemon=True) for token in (1, 2)]
    for thread in threads:
        thread.start()
    begin.wait(60.0)
    for _ in range(1_000):
        found = routes.match(price("m"))
        if found not in (("first",), ("first", "second")):
            wrong.append(found)
    for thread in threads:
        thread.join(60.0)
    assert wrong == []
    assert routes.match(price("m")) == ("first",)
    assert list(routes._routes[PriceUpdate].keyed) == []


KINDS = st.sampled_from(
    [Event, DataEvent, PriceUpdate, TransactionConfirmed, Price("a"), Price("b"), Transactions("v"), Transactions("w")]
)
EDITS = st.lists(st.tuples(st.integers(0, 5), st.lists(KINDS, max_size=3), st.sampled_from("xyz")), max_size=15)


def _matches(kind: Kind, event: Event) -> bool:
    if isinstance(kind, type):
        return isinstance(event, kind)
    unknown = isinstance(event, TransactionConfirmed) and event.channel is None and isinstance(kind, Transactions)
    return unknown or kind == getattr(event, "channel", None)


@given(edits=EDITS)
def test_any_edits_equal_a_linear_search(edits: list[tuple[int, list[Kind], str]]) -> None:
    """Whatever is registered and removed, a lookup finds what a search through all registrations would."""
    routes: RouteTable[str] = RouteTable()
    model: dict[Hashable, tuple[list[Kind], str]] = {}
    for token, kinds, target in edits:
        routes.remove(token)
        model.pop(token, None)
        if kinds:
            routes.add(token, kinds, target)
            model[token] = (kinds, target)
        for event in (price("a"), price("c"), transaction("v"), transaction(None), Pong()):
            found = [target for kinds, target in model.values() if any(_matches(kind, event) for kind in kinds)]
            assert routes.match(event) == tuple(dict.fromkeys(found))


def test_only_what_is_registered_is_known() -> None:
    """By its very key: who remembers what is known remembers no more than was registered."""
    table: RouteTable[str] = RouteTable()
    table.add(1, [Price("a"), PriceUpdate], "target")
    assert table.knows(PriceUpdate, "a")
    assert not table.knows(PriceUpdate, "b")
    assert not table.knows(BotUpdate, "a")
    assert not table.knows(Event, "a")
    table.remove(1)
    assert not table.knows(PriceUpdate, "a")


class Edited(dict[Any, Any]):
    """A mapping from which a signal handler takes something out while it is gone through."""

    def items(self) -> Any:
        """As ever, until the second."""
        for item in super().items():
            yield item
            self.pop(2, None)

    def values(self) -> Any:
        """Likewise."""
        for value in super().values():
            yield value
            self.pop(2, None)


def test_a_signal_handler_edits_the_table_that_is_gone_through() -> None:
    """What it interrupts goes on with what was registered when it came."""
    routes = table((Event, "a"), (Event, "b"), (Event, "c"))
    routes._registered = Edited(routes._registered)
    assert routes.tokens_of("a") == [0]
    assert routes.targets() == ["a", "b", "c"]


class Whole(dict[Any, Any]):
    """A mapping that counts how often all of it is asked for; a finalizer runs then, once."""

    times = 0
    finalizer: Any = None

    def copy(self) -> Any:
        """As ever, and then the finalizer."""
        self.times += 1
        found = super().copy()
        finalizer, self.finalizer = self.finalizer, None
        if finalizer is not None:
            finalizer()
        return found


def test_tokens_of_many_targets_are_looked_up_once() -> None:
    """From then on edits keep them: one target after the other is removed without going through all of them again."""
    routes: RouteTable[object] = RouteTable()
    targets = {number: object() for number in range(10, 110)}
    for number, target in targets.items():
        routes.add(number, [Price("m")], target)
    routes._registered = whole = Whole(routes._registered)
    for number, target in targets.items():
        assert routes.tokens_of(target) == [number]
        routes.add(-number, [Event], target)
        assert routes.tokens_of(target) == [number, -number]
        routes.narrow(number, [Price("m")])
        assert routes.tokens_of(target) == [-number]
        routes.remove(-number)
        assert routes.tokens_of(target) == []
    assert whole.times == 1
    assert routes._tokens == {}


def test_tokens_that_a_finalizer_edits_while_they_are_looked_up() -> None:
    """They are those from before, and are not kept."""
    routes = table((Event, "a"))
    routes._registered = whole = Whole(routes._registered)
    whole.finalizer = lambda: routes.add(1, [Event], "a")
    assert routes.tokens_of("a") == [0]
    whole.finalizer = lambda: routes.remove(0)
    assert routes.tokens_of("a") == [0, 1]
    assert routes.tokens_of("a") == [1]


def test_a_finalizer_removes_the_only_other_token_of_a_target() -> None:
    """Just when another one is registered: that stays."""
    routes = table((Event, "a"))
    assert routes.tokens_of("a") == [0]
    routes._tokens = meddling = Meddling(routes._tokens or {})
    meddling.finalizer = lambda: routes.remove(0)
    routes.add(1, [Event], "a")
    assert routes.tokens_of("a") == [1]


class CutOff(dict[Any, Any]):
    """A mapping whose edits Ctrl-C comes after."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        raise KeyboardInterrupt

    def pop(self, *arguments: Any) -> Any:
        """As ever, and then Ctrl-C."""
        super().pop(*arguments)
        raise KeyboardInterrupt


EDITS_OF_A_TABLE: dict[str, Callable[[RouteTable[str]], None]] = {
    "add": lambda routes: routes.add(2, [Price("m")], "a"),
    "remove": lambda routes: routes.remove(0),
    "narrow": lambda routes: routes.narrow(0, [Price("m")]),
}


@pytest.mark.parametrize("edit", EDITS_OF_A_TABLE)
def test_tokens_after_an_edit_that_was_cut_off(edit: str) -> None:
    """They are what is registered: what the edit began can be removed, and what it removed is not found."""
    routes = table((Price("m"), "a"), (Event, "b"))
    assert routes.tokens_of("a") == [0]
    whole, routes._registered = routes._registered, CutOff(routes._registered)
    with pytest.raises(KeyboardInterrupt):
        EDITS_OF_A_TABLE[edit](routes)
    whole.clear()
    whole.update(routes._registered)
    routes._registered = whole
    assert {*routes.tokens_of("a"), *routes.tokens_of("b")} == set(whole)
    for token in routes.tokens_of("a"):
        routes.remove(token)
    assert routes.match(price("m")) == ("b",)
    assert routes.targets() == ["b"]
    assert routes.tokens_of("a") == []


def test_a_finalizer_removes_the_only_other_target_of_a_key() -> None:
    """Just when another one is registered: that stays."""
    table: RouteTable[str] = RouteTable()
    table.add(1, [Price("a")], "one")
    route = table._routes[PriceUpdate]
    route.keyed = meddling = Meddling(route.keyed)
    meddling.finalizer = lambda: table.remove(1)
    table.add(2, [Price("a")], "two")
    assert table.find(PriceUpdate, "a") == ("two",)
    table.remove(2)
    assert not route.keyed
