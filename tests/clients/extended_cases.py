"""What tests/clients/extended_client.py does at a gate, case by case.

Its argument is JSON with the addresses of a gate that has the service `diary`:
`tcp` and `websocket`, and of listeners for frames of 4,000 bytes at most that keep 64 packets for
a client: `narrow_tcp` and `narrow_websocket`. The test that starts it, with the service, is
crates/gate/tests/foreign_extended.rs.
"""

import asyncio
import json
import random
import sys

from extended_client import (
    Client,
    Closed,
    Lost,
    Refused,
    Tcp,
    WebSocket,
    decode,
    encode,
    number,
)

CUTS = 50
NOTES = 400


class Cutter:
    """Forwards connections to a gate, and cuts each of them after so many bytes."""

    def __init__(self, address, seed, cuts):
        host, _, port = address.removeprefix("ws://").rstrip("/").rpartition(":")
        self.gate = (host, int(port))
        rng = random.Random(seed)
        # Some within the handshake, some far behind it.
        self.budgets = [rng.randrange(1, rng.choice((300, 1200, 5000))) for _ in range(cuts)]
        self.cuts = 0
        self.pairs = set()

    async def start(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def serve(self, reader, writer):
        left = [self.budgets.pop(0) if self.budgets else None]
        try:
            gate_reader, gate_writer = await asyncio.open_connection(*self.gate)
        except OSError:
            writer.transport.abort()
            return
        writers = (writer, gate_writer)
        try:
            await asyncio.gather(
                self.pump(reader, gate_writer, left, writers),
                self.pump(gate_reader, writer, left, writers),
            )
        except asyncio.CancelledError:
            # The cases are over.
            pass

    async def pump(self, reader, writer, left, writers):
        try:
            while data := await reader.read(4096):
                cut = left[0] is not None and len(data) >= left[0]
                writer.write(data[: left[0]] if cut else data)
                await writer.drain()
                if cut:
                    # What was let through is to arrive: the bytes are what is counted.
                    self.cuts += 1
                    left[0] = None
                    for each in writers:
                        each.close()
                    return
                if left[0] is not None:
                    left[0] -= len(data)
        except OSError:
            pass
        for each in writers:
            each.close()


class Case:
    def __init__(self, transport, addresses):
        self.transport = transport
        name = "tcp" if transport is Tcp else "websocket"
        self.address, self.narrow = addresses[name], addresses[f"narrow_{name}"]

    def client(self, address=None, **wishes):
        return Client(self.transport, self.dial(address or self.address), **wishes)

    def dial(self, address):
        return address if self.transport is Tcp else f"ws://{address}/"


async def next_of(client, *kinds):
    """The next thing of these kinds that the client is told."""
    while True:
        item = await asyncio.wait_for(client.inbox.get(), 30)
        if item[0] in kinds:
            return item
        # An end may be that of a connection before this one.
        if item[0] == "end" and client.running.done():
            raise AssertionError(f"the connection ended: {item[1]!r}")


async def until(what, condition):
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


async def hello(case):
    client = case.client(agent="third-client/1", auth={"user": "anna"})
    welcome = await client.connect()
    assert welcome["version"] == 1 and welcome["user"] == "anna", welcome
    assert welcome["capabilities"] == ["resume"] and not welcome["resumed"]
    assert welcome["max_packet"] == 65535 and welcome["received"] == 0
    assert welcome["gate"] and welcome["session"] and welcome["resume"]["window_ms"] > 0
    assert await client.ping(2**64 - 1) == 2**64 - 1
    assert isinstance(await client.bye(), (Lost, Closed))


async def refused_at_the_door(case):
    client = case.client(auth={"refuse": True})
    try:
        await client.connect()
    except Closed as closed:
        assert (closed.code, closed.reconnect) == (4503, False), closed
    else:
        raise AssertionError("was let in")
    for wrong, code in [({"versions": [2]}, 4508), ({"versions": "1"}, 4507)]:
        try:
            await case.client(**wrong).connect()
        except Closed as closed:
            assert (closed.code, closed.reconnect) == (code, False), closed
        else:
            raise AssertionError(f"was let in with {wrong}")


async def requests_and_errors(case):
    client = case.client()
    await client.connect()
    assert await client.request("diary/echo", b"hello") == b"hello"
    body = bytes(range(256)) * 200
    assert await client.request("diary/echo", body) == body
    for method, code in [("nobody/home", 3), ("diary/nothing", 3)]:
        try:
            await client.request(method)
        except Refused as refused:
            assert (refused.code, refused.packet) == (code, client.session.sent), refused
        else:
            raise AssertionError(f"{method} was served")
    # One-way packets have errors too, and a topic that is none of the router's counts.
    count = await client.send("what is this", b"")
    _, error = await next_of(client, "error")
    assert (error["topic"], error["packet"], error["code"]) == ("what is this", count, 1), error
    # A control packet that the gate does not know is no packet: it has no count.
    await client.socket.send(encode("$later", b"x"))
    _, error = await next_of(client, "error")
    assert (error["packet"], error["code"]) == (0, 2), error
    # Two under one topic are told apart by their counts.
    for body in (b"", b""):
        await client.send("nobody/home/same", body)
    errors = [(await next_of(client, "error"))[1]["packet"] for _ in range(2)]
    assert errors == [client.session.sent - 1, client.session.sent], errors
    await client.bye()


async def pushes_and_acknowledgements(case):
    client = case.client()
    await client.connect()
    notes = 3 * 16 + 5
    for n in range(notes):
        await client.send("diary/write", str(n).encode())
    for n in range(notes):
        kind, topic, body = await next_of(client, "packet", "gap")
        assert (kind, topic, body) == ("packet", "diary/line", str(n).encode()), (topic, body, n)
    # The gate acknowledges the last ones too, though they are fewer than 16.
    await until("all acknowledged", lambda: not client.session.kept)
    await until("all told", lambda: client.session.acknowledged == client.session.received)
    await client.bye()
    # A gate that keeps 64 packets loses none of 200: it hears of them in time.
    client = case.client(case.narrow)
    await client.connect()
    for n in range(200):
        await client.send("diary/write", str(n).encode())
        assert (await next_of(client, "packet", "token"))[2] == str(n).encode()
    assert client.session.token is not None
    await client.bye()


async def heartbeats(case):
    wish = {"client_ms": 2000, "gate_ms": 1000}
    client = case.client(heartbeat=wish)
    welcome = await client.connect()
    assert welcome["heartbeat"] == wish, welcome
    # Silent but for pings, longer than the gate would wait; then one that is silent.
    await until("the gate's pings", lambda: client.pinged >= 3)
    assert client.end is None
    client.mute = True
    end = await asyncio.wait_for(client.wait_end(), 30)
    assert isinstance(end, Closed) and (end.code, end.reconnect) == (4002, True), end
    # The session has not ended by that.
    client.mute = False
    assert (await client.connect())["resumed"]
    too_often = case.client(heartbeat={"client_ms": 1, "gate_ms": 2**40})
    welcome = await too_often.connect()
    assert welcome["heartbeat"] == {"client_ms": 1000, "gate_ms": 30000}, welcome
    await client.bye()
    await too_often.bye()


async def cuts(case):
    for seed in range(2):
        cutter = Cutter(case.address, seed, CUTS // 2)
        client = case.client(await cutter.start())
        await client.stay_connected()
        writing = asyncio.ensure_future(write_notes(client))
        lines = []
        resumed = 0
        while len(lines) < NOTES:
            item = await asyncio.wait_for(client.inbox.get(), 60)
            if item[0] == "packet":
                assert item[1] == "diary/line", item
                lines.append(int(item[2]))
            elif item[0] == "end":
                await client.stay_connected()
                assert client.welcome["resumed"], (item, client.welcome)
                resumed += 1
            elif item[0] != "token":
                raise AssertionError(f"seed {seed}: {item}")
        await writing
        while cutter.budgets:
            # Whatever cuts are left: nothing under way, and the session goes on.
            client.cut()
            await client.wait_end()
            await client.stay_connected()
            assert client.welcome["resumed"], client.welcome
        # A last cut may have come since.
        if client.running.done():
            await client.stay_connected()
        keep = asyncio.ensure_future(keep_connected(client))
        noted = json.loads(await client.request("diary/lines"))
        keep.cancel()
        assert [int(n) for n in noted] == list(range(NOTES)), f"seed {seed}: {noted}"
        assert lines == list(range(NOTES)), f"seed {seed}: {lines}"
        assert cutter.cuts + len(cutter.budgets) >= CUTS // 2 and resumed > 0
        print(f"  seed {seed}: {cutter.cuts} cuts, resumed {resumed} times with packets", flush=True)
        await client.bye()


async def write_notes(client):
    for n in range(NOTES):
        await client.send("diary/write", f"{n:060}".encode())
        if n % 8 == 0:
            await asyncio.sleep(0.01)


async def keep_connected(client):
    while True:
        await client.wait_end()
        await client.stay_connected()


async def answers_come_after_resuming(case):
    client = case.client()
    await client.connect()
    answer = asyncio.ensure_future(client.request("diary/held", b"?"))
    await until("sent", lambda: client.session.sent == 1)
    await client.ping()
    client.cut()
    await client.wait_end()
    assert (await client.connect())["resumed"]
    await client.send("diary/release")
    assert await asyncio.wait_for(answer, 30) == b"?"
    await client.bye()


async def gap(case):
    client, watcher = case.client(), case.client()
    await client.connect()
    await watcher.connect()
    await client.send("diary/big-when-away")
    await client.ping()
    client.cut()
    await client.wait_end()
    await watcher.request("diary/big-done")
    client.address = case.dial(case.narrow)
    welcome = await client.connect()
    assert welcome["resumed"] and welcome["max_packet"] == 4000, welcome
    seen = [await next_of(client, "packet", "gap") for _ in range(3)]
    assert seen == [
        ("packet", "diary/line", b"sssss"),
        ("gap", 1, "too-large"),
        ("packet", "diary/line", b"end"),
    ], seen
    # The counts agree: what comes behind is neither sent again nor missing.
    client.cut()
    await client.wait_end()
    assert (await client.connect())["resumed"]
    assert await client.request("diary/echo", b"still") == b"still"
    assert client.session.received == 4
    await client.bye()
    await watcher.bye()


async def goodbye_is_for_good(case):
    client = case.client()
    await client.connect()
    await client.request("diary/echo", b"")
    await client.bye()
    welcome = await client.connect()
    assert not welcome["resumed"] and welcome["refused"]["code"] == 7, welcome
    assert welcome["received"] == 0
    assert await client.request("diary/echo", b"anew") == b"anew"
    await client.bye()


async def wrong_tokens(case):
    for token in ("", "nonsense", "A" * 64):
        client = case.client()
        client.session.token = token
        welcome = await client.connect()
        assert not welcome["resumed"] and welcome["refused"]["code"] == 1, welcome
        await client.bye()
    client = case.client()
    client.session.token = "A" * 257
    try:
        await client.connect()
    except Closed as closed:
        assert closed.code == 4507, closed
    else:
        raise AssertionError("a token of 257 bytes was read")


async def another_user_and_bad_counts(case):
    client = case.client(auth={"user": "anna"})
    await client.connect()
    await client.ping()
    other = case.client(auth={"user": "bob"})
    other.session.token = client.session.token
    welcome = await other.connect()
    assert welcome["refused"]["code"] == 4 and welcome["user"] == "bob", welcome
    ahead = case.client(auth={"user": "anna"})
    ahead.session.token, ahead.session.received = client.session.token, 1
    welcome = await ahead.connect()
    assert welcome["refused"]["code"] == 5, welcome
    # Neither has harmed it.
    assert await client.request("diary/echo", b"mine") == b"mine"
    for each in (client, other, ahead):
        await each.bye()


async def stolen_token(case):
    client = case.client()
    await client.connect()
    stolen = client.session.token
    await client.ping()
    client.cut()
    await client.wait_end()
    assert (await client.connect())["resumed"]
    await client.ping()
    # Presented, and nothing more: a late `$hello` of the true client looks like that.
    late = case.client()
    late.session.token = stolen
    late.socket = await late.transport.dial(late.address)
    await late.socket.send(late.session.hello({}))
    topic, body = decode(await late.socket.receive())
    assert topic == "$welcome" and json.loads(body)["refused"]["code"] == 6, body
    late.cut()
    assert await client.request("diary/echo", b"here") == b"here"
    # A thief who goes on.
    thief = case.client()
    thief.session.token = stolen
    welcome = await thief.connect()
    assert not welcome["resumed"] and welcome["refused"]["code"] == 6, welcome
    end = await asyncio.wait_for(client.wait_end(), 30)
    assert isinstance(end, Closed) and (end.code, end.reconnect) == (4509, False), end
    welcome = await client.connect()
    assert welcome["refused"]["code"] == 6, welcome
    await client.bye()
    await thief.bye()


async def takes_over_from_a_half_dead_connection(case):
    client = case.client()
    await client.connect()
    await client.request("diary/echo", b"")
    # The client has given the old connection up, and the gate has not heard of it.
    old = client.socket
    assert (await client.connect())["resumed"]
    assert await client.request("diary/echo", b"new") == b"new"
    try:
        while True:
            topic, _ = decode(await asyncio.wait_for(old.receive(), 30))
            assert topic in ("$ack", "$ping"), topic
    except Lost:
        pass
    await client.bye()


async def who_does_not_acknowledge_cannot_resume(case):
    client = case.client(case.narrow)
    await client.connect()
    await client.ping()
    client.acknowledges = False
    await client.send("diary/flood")
    _, update = await next_of(client, "token")
    assert update["refused"]["code"] == 3 and "token" not in update, update
    assert client.session.token is None
    assert await client.request("diary/echo", b"goes on") == b"goes on"
    await client.bye()


async def kicked(case):
    client = case.client()
    await client.connect()
    await client.send("diary/kick")
    end = await asyncio.wait_for(client.wait_end(), 30)
    assert isinstance(end, Closed) and (end.code, end.reconnect) == (4504, False), end
    if case.transport is WebSocket:
        assert client.socket.close_code == 4504, client.socket.close_code


async def violations(case):
    for topic, body in [
        ("$ack", number(1)),
        ("$ack", b"\0" * 7),
        ("$ping", b""),
        ("$hello", b'{"versions":[1]}'),
    ]:
        client = case.client()
        await client.connect()
        await client.socket.send(encode(topic, body))
        end = await asyncio.wait_for(client.wait_end(), 30)
        assert isinstance(end, Closed) and (end.code, end.reconnect) == (4507, False), end


CASES = [
    hello,
    refused_at_the_door,
    requests_and_errors,
    pushes_and_acknowledgements,
    heartbeats,
    cuts,
    answers_come_after_resuming,
    gap,
    goodbye_is_for_good,
    wrong_tokens,
    another_user_and_bad_counts,
    stolen_token,
    takes_over_from_a_half_dead_connection,
    who_does_not_acknowledge_cannot_resume,
    kicked,
    violations,
]


async def main():
    addresses = json.loads(sys.argv[1])
    transport = {"tcp": Tcp, "websocket": WebSocket}[sys.argv[2]]
    for case in CASES:
        async with asyncio.timeout(120):
            await case(Case(transport, addresses))
        print(f"passed: {case.__name__}", flush=True)


asyncio.run(main())
