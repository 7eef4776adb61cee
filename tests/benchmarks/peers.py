"""The others, one function each: connect, ask for the traffic, decode every message, hand it to the probe.

They do what their documentation shows.  Two are no libraries but lower bounds: `raw_count` and `raw_loop` read a
blocking socket and decode with msgspec, without reconnecting, checking, time stamps, or anybody to call; the first even
counts in its own loop.  The callback of picows is the user's code itself, so that it counts in place, too.

`pybit` and `coinbase` are whole clients, pointed at the loopback server.  The first is used below its `WebSocket`
class, whose topics our messages do not have, which spares it the routing; the second hands out text, so that its user
decodes.  coinbase-advanced-py works with websockets below 14 only, the extra ``testing`` from 14 on: it is
skipped, but where somebody has installed it without that extra.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from .probes import Count, Probe
from .wire import GO, GO_FRAME

__all__ = [
    "coinbase",
    "picows_orjson",
    "pybit",
    "raw_count",
    "raw_decoder",
    "raw_loop",
    "raw_payloads",
    "raw_socket",
    "websocket_app",
    "websockets_sync",
]

_READ: Final = 65_536


def websocket_app(url: str, probe: Probe) -> None:
    """websocket-client's `WebSocketApp` with `json.loads`: the baseline."""
    import websocket  # noqa: PLC0415 - only a process that measures it pays for it

    loads, handle, opened = json.loads, probe.handler(), []

    def on_open(app: Any) -> None:
        opened.append(app.sock)
        probe.begin()
        app.send(GO.decode())

    def on_message(_app: Any, message: str) -> None:
        handle(loads(message))

    websocket.WebSocketApp(url, on_open=on_open, on_message=on_message).run_forever()
    opened[0].shutdown()  # websocket-client leaves the socket to the collector


def websockets_sync(url: str, probe: Probe) -> None:
    """The synchronous client of websockets with `json.loads`."""
    from websockets.sync.client import connect  # noqa: PLC0415 - as above

    with connect(url, compression=None) as connection:
        probe.begin()
        connection.send(GO.decode())
        probe.consume(map(json.loads, connection))  # its version 14 may lose what came just before a close frame


def pybit(url: str, probe: Probe) -> None:
    """The connection manager of pybit, which is `WebSocketApp` and `json.loads` on a thread."""
    stream = importlib.import_module("pybit._websocket_stream")
    manager = stream._V5WebSocketManager("benchmark", testnet=False, callback_function=probe.handler())
    manager._connect(url)
    probe.begin()
    manager.subscribe("go", print, symbol="any")
    probe.wait()
    connection = manager.ws.sock
    manager.exit()
    connection.shutdown()


def coinbase(url: str, probe: Probe) -> None:
    """The `WSClient` of coinbase-advanced-py, which is websockets' asyncio client on a thread, with `json.loads`."""
    loads, handle = json.loads, probe.handler()
    client_class = importlib.import_module("coinbase.websocket").WSClient
    client = client_class(base_url=url, on_message=lambda message: handle(loads(message)), retry=False)
    client.open()
    probe.begin()
    client.subscribe(["go"], ["ticker"])
    probe.wait()
    client.close()


def picows_orjson(url: str, probe: Count) -> None:
    """The asyncio client picows, in Cython, with `orjson.loads`."""
    asyncio.run(_picows_orjson(url, probe))


async def _picows_orjson(url: str, probe: Count) -> None:
    picows, loads = importlib.import_module("picows"), importlib.import_module("orjson").loads
    text, kinds, count = picows.WSMsgType.TEXT, picows.WSListener, 0

    def on_ws_connected(_listener: object, transport: Any) -> None:
        probe.begin()
        transport.send(text, GO)

    def on_ws_frame(_listener: object, transport: Any, frame: Any) -> None:
        nonlocal count
        if frame.msg_type == text:
            loads(frame.get_payload_as_memoryview())
            count += 1
        else:
            probe.end(count)
            transport.disconnect()

    listener = type("Listener", (kinds,), {"on_ws_connected": on_ws_connected, "on_ws_frame": on_ws_frame})
    context = ssl.create_default_context() if url.startswith("wss:") else None
    transport, _ = await picows.ws_connect(listener, url, ssl_context=context)
    await transport.wait_disconnected()


# Raw sockets ----------------------------------------------------------------------------------------------------------


def raw_socket(url: str) -> socket.socket:
    """A blocking socket behind its upgrade."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    conn = socket.create_connection((parts.hostname, parts.port or 0))
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if parts.scheme == "wss":
        conn = ssl.create_default_context().wrap_socket(conn, server_hostname=parts.hostname)
    request = (
        f"GET {parts.path}?{parts.query} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "\r\n",
    )
    conn.sendall("\r\n".join(request).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += conn.recv(1)
    return conn


def raw_decoder() -> Any:
    """The documented messages, told apart by their tag, into typed structs of msgspec's."""
    msgspec = importlib.import_module("msgspec")
    moment = importlib.import_module("datetime").datetime
    options = {"tag_field": "type", "frozen": True}
    trade = msgspec.defstruct("Trade", [("signature", str), ("profit", float), ("timestamp", moment)], frozen=True)
    price = [("mint", str), ("price", float), ("volume", float), ("timestamp", moment)]
    update = [("botId", str), ("event", str), ("data", trade)]
    transaction = [("signature", str), ("status", str), ("slot", int)]
    kinds = (
        msgspec.defstruct("Price", price, tag="price_update", **options),
        msgspec.defstruct("Update", update, tag="bot_update", **options),
        msgspec.defstruct("Transaction", transaction, tag="transaction_confirmed", **options),
    )
    return msgspec.json.Decoder(kinds[0] | kinds[1] | kinds[2])


def raw_count(url: str, probe: Count) -> None:
    """The limit: read, cut, decode, count, all in one loop."""
    conn, decode, head = raw_socket(url), raw_decoder().decode, struct.Struct("!HH").unpack_from
    recv, data, count, text = conn.recv, b"", 0, True
    probe.begin()
    conn.sendall(GO_FRAME)
    while text and (chunk := recv(_READ)):
        data = data + chunk if data else chunk
        position, size = 0, len(data)
        while size - position >= 4:
            start, length = head(data, position)
            if start == 0x817E:
                begin = position + 4
            elif 0x8100 <= start < 0x817E:
                begin, length = position + 2, start & 0x7F
            else:
                text = False
                break
            end = begin + length
            if end > size:
                break
            decode(data[begin:end])
            count += 1
            position = end
        data = data[position:]
    probe.end(count)
    conn.close()


def raw_payloads(conn: socket.socket) -> Iterator[bytes]:
    """The payloads of short text frames, until something else comes."""
    data = b""
    while chunk := conn.recv(_READ):
        data += chunk
        while len(data) >= 4:
            start, length = struct.unpack_from("!HH", data)
            if not 0x8100 <= start <= 0x817E:
                return
            begin, length = (4, length) if start == 0x817E else (2, start & 0x7F)
            if len(data) < begin + length:
                break
            yield data[begin : begin + length]
            data = data[begin + length :]


def raw_loop(url: str, probe: Probe) -> None:
    """The same with a handler, for latency: one message at a time."""
    handle, decode = probe.handler(), raw_decoder().decode
    with raw_socket(url) as conn:
        probe.begin()
        conn.sendall(GO_FRAME)
        for payload in raw_payloads(conn):
            handle(decode(payload))
