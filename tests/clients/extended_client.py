"""A client of the extended protocol, written from docs/protocol.md and nothing else.

It is the proof that the page is enough: when the page and this file disagree with the gate, the
page is wrong. The standard library alone for TCP; the `websockets` package for WebSocket.
"""

import asyncio
import collections
import json
import random
import struct

MAX_PACKET = 65535
ACK_PACKETS = 16
ACK_SECONDS = 1.0


# The frame


def encode(topic, body=b""):
    topic = topic.encode()
    return struct.pack("<HH", 4 + len(topic) + len(body), len(topic)) + topic + body


def decode(frame):
    total, topic_len = struct.unpack_from("<HH", frame)
    if total != len(frame) or not 1 <= topic_len <= total - 4:
        raise ProtocolError(f"not a frame: {frame[:32].hex()}")
    return frame[4 : 4 + topic_len].decode(), frame[4 + topic_len :]


def number(value):
    return struct.pack("<Q", value)


def read_number(body):
    if len(body) != 8:
        raise ProtocolError(f"a number of {len(body)} bytes")
    return struct.unpack("<Q", body)[0]


class ProtocolError(Exception):
    """The gate does what the page does not allow."""


class Lost(Exception):
    """The connection is gone, and nobody said why."""


class Closed(Exception):
    """The gate said why before it closed."""

    def __init__(self, close):
        super().__init__(f"{close['code']}: {close['text']}")
        self.code = close["code"]
        self.reconnect = close["reconnect"]
        self.retry_after_ms = close.get("retry_after_ms")


class Refused(Exception):
    """An `$error` for a packet of ours."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.topic = error["topic"]
        self.packet = error["packet"]
        self.code = error["code"]


# The transports: whole frames in, whole frames out


class Tcp:
    @classmethod
    async def dial(cls, address):
        host, _, port = address.rpartition(":")
        self = cls()
        try:
            self.reader, self.writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as error:
            raise Lost(str(error)) from error
        return self

    async def send(self, frame):
        try:
            self.writer.write(frame)
            await self.writer.drain()
        except OSError as error:
            raise Lost(str(error)) from error

    async def receive(self):
        try:
            head = await self.reader.readexactly(2)
            (total,) = struct.unpack("<H", head)
            if total < 5:
                raise ProtocolError(f"a frame of {total} bytes")
            return head + await self.reader.readexactly(total - 2)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Lost(str(error)) from error

    async def close(self):
        self.writer.close()

    def cut(self):
        self.writer.transport.abort()


class WebSocket:
    @classmethod
    async def dial(cls, address):
        import websockets.asyncio.client
        import websockets.exceptions

        self = cls()
        self.lost = websockets.exceptions.ConnectionClosed
        self.close_code = None
        try:
            self.socket = await websockets.asyncio.client.connect(address, compression=None, proxy=None)
        except (OSError, websockets.exceptions.WebSocketException) as error:
            raise Lost(str(error)) from error
        return self

    async def send(self, frame):
        try:
            await self.socket.send(frame)
        except self.lost as error:
            raise Lost(str(error)) from error

    async def receive(self):
        try:
            message = await self.socket.recv()
        except self.lost as error:
            self.close_code = self.socket.close_code
            raise Lost(str(error)) from error
        if not isinstance(message, bytes):
            raise ProtocolError("a text message")
        return message

    async def close(self):
        await self.socket.close()

    def cut(self):
        self.socket.transport.abort()


# The session: counts, tokens and what was not acknowledged. Knows nothing of sockets.


class Session:
    def __init__(self):
        self.token = None
        self.id = None
        self.begin()

    def begin(self):
        """Counts of a new session."""
        self.received = 0  # the gate's packets that we have taken
        self.acknowledged = 0  # how many of them we have told the gate
        self.sent = 0  # packets of ours, since the session began
        self.kept = collections.deque()  # (count, frame) that the gate has not acknowledged

    def hello(self, wishes):
        hello = {"versions": [1], "capabilities": ["resume"], **wishes}
        if self.token is not None:
            hello["resume"] = {"token": self.token, "received": self.received}
        return encode("$hello", json.dumps(hello).encode())

    def welcome(self, welcome):
        """What to send at once behind a `$welcome`, and what of the last session is lost."""
        if welcome["version"] != 1:
            raise ProtocolError(f"version {welcome['version']}")
        lost = []
        if welcome["resumed"]:
            if self.token is None or welcome["session"] != self.id:
                raise ProtocolError("resumed another session")
            self.taken_by_gate(welcome["received"])
        else:
            lost = [frame for _, frame in self.kept]
            self.begin()
            if welcome["received"] != 0:
                raise ProtocolError("a new session that has received packets")
        self.id = welcome["session"]
        self.token = welcome["resume"]["token"] if "resume" in welcome else None
        return [self.acknowledge()] + [frame for _, frame in self.kept], lost

    def acknowledge(self):
        self.acknowledged = self.received
        return encode("$ack", number(self.received))

    def taken_by_gate(self, count):
        first = self.kept[0][0] if self.kept else self.sent + 1
        if not first - 1 <= count <= self.sent:
            raise ProtocolError(f"{count} acknowledged of {self.sent}, {first - 1} before")
        while self.kept and self.kept[0][0] <= count:
            self.kept.popleft()

    def packet(self, topic, body):
        """The frame of a packet that counts, kept until it is acknowledged."""
        frame = encode(topic, body)
        self.sent += 1
        self.kept.append((self.sent, frame))
        return self.sent, frame

    def take(self, topic, body):
        """Counts a packet of the gate; tells whether it is one for the application."""
        if not topic.startswith("$"):
            self.received += 1
            return True
        if topic == "$error":
            self.received += 1
        elif topic == "$gap":
            self.received += json.loads(body)["count"]
        elif topic == "$ack":
            self.taken_by_gate(read_number(body))
        elif topic == "$token":
            self.token = json.loads(body).get("token")
        return False


# The client


class Incoming:
    """Frames as they come. A read that is given up may have taken half a frame, so a task of its
    own reads them, and what is given up is waiting for it."""

    def __init__(self, socket):
        self.frames = collections.deque()
        self.came = asyncio.Event()
        self.pump = asyncio.ensure_future(self.fetch(socket))

    async def fetch(self, socket):
        try:
            while True:
                self.frames.append(await socket.receive())
                self.came.set()
        finally:
            self.came.set()

    async def next(self, seconds):
        """The next frame; None if there is none for so many seconds."""
        if not self.frames and not self.pump.done():
            self.came.clear()
            try:
                await asyncio.wait_for(self.came.wait(), seconds)
            except TimeoutError:
                return None
        if self.frames:
            return self.frames.popleft()
        return self.pump.result()


class Client:
    """One session over any number of connections; packets for the application in `inbox`.

    What comes in is `("packet", topic, body)`, `("gap", count, reason)`, `("drain", notice)`,
    `("lost", frames)` when a new session began in place of the old one. Answers of requests and
    their errors go to those who asked.
    """

    def __init__(self, transport, address, **wishes):
        self.transport = transport
        self.address = address
        self.wishes = wishes
        self.session = Session()
        self.inbox = asyncio.Queue()
        self.waiting = {}  # topic -> [[count, future]]
        self.pongs = collections.deque()
        self.socket = None
        self.running = None
        self.last_id = 0
        self.pinged = 0  # pings of the gate
        # A client that behaves badly, for the tests.
        self.acknowledges = True
        self.mute = False
        self.welcome = None
        self.end = None
        self.open = False  # whether packets may be written: between `$welcome` and the end
        self.writing = asyncio.Lock()  # packets go out in the order of their counts

    async def connect(self):
        """One attempt. Raises `Closed` when the gate refuses, `Lost` when it cannot be heard."""
        self.end = None
        self.open = False
        if self.running is not None and not self.running.done():
            # A connection that is given up: nothing of it is taken any more.
            self.running.cancel()
            await asyncio.wait([self.running])
        self.socket = await self.transport.dial(self.address)
        try:
            await self.socket.send(self.session.hello(self.wishes))
            topic, body = decode(await self.socket.receive())
            if topic == "$close":
                raise Closed(json.loads(body))
            if topic != "$welcome":
                raise ProtocolError(f"{topic} in place of a $welcome")
            async with self.writing:
                self.welcome = json.loads(body)
                at_once, lost = self.session.welcome(self.welcome)
                if lost or "refused" in self.welcome:
                    self.inbox.put_nowait(("lost", lost))
                if not self.welcome["resumed"]:
                    self.fail_waiting(Lost("the session ended"))
                # Read while writing: the gate writes what we missed at the same time.
                self.running = asyncio.ensure_future(self.run())
                self.running.add_done_callback(self.stopped)
                self.open = True
                try:
                    for frame in at_once:
                        await self.socket.send(frame)
                except Lost:
                    # The reader finds out too. What has come is still to be taken, before
                    # the next `$hello` says how much that was.
                    pass
        except BaseException:
            self.socket.cut()
            raise
        return self.welcome

    async def stay_connected(self, back_off=0.01, patience=200):
        """Connects again and again, with jitter, until a connection stands."""
        for attempt in range(patience):
            try:
                return await self.connect()
            except Closed as closed:
                if not closed.reconnect:
                    raise
                await asyncio.sleep((closed.retry_after_ms or 0) / 1000)
            except Lost:
                pass
            await asyncio.sleep(random.uniform(0, min(1.0, back_off * 2**attempt)))
        raise Lost(f"{patience} attempts")

    def stopped(self, running):
        if not running.cancelled():
            self.end = running.exception()
            self.inbox.put_nowait(("end", self.end))

    async def wait_end(self):
        """Waits until the connection has ended; why."""
        await asyncio.wait([self.running])
        return self.running.exception()

    async def run(self):
        beat = asyncio.ensure_future(self.beat())
        try:
            await self.read()
        finally:
            beat.cancel()

    async def read(self):
        incoming = Incoming(self.socket)
        due = None
        loop = asyncio.get_running_loop()
        closed = None
        try:
            while True:
                # At most one second, or 16 packets, until the gate hears what we have taken.
                frame = await incoming.next(None if due is None else due - loop.time())
                if frame is not None:
                    topic, body = decode(frame)
                    if topic == "$close":
                        closed = Closed(json.loads(body))
                    await self.handle(topic, body)
                behind = self.session.received - self.session.acknowledged
                if behind == 0:
                    due = None
                elif due is None:
                    due = loop.time() + ACK_SECONDS
                if behind >= ACK_PACKETS or (due is not None and loop.time() >= due):
                    due = None
                    if self.acknowledges:
                        await self.socket.send(self.session.acknowledge())
        except Lost:
            if closed is not None:
                raise closed from None
            raise
        finally:
            incoming.pump.cancel()

    async def handle(self, topic, body):
        session = self.session
        if session.take(topic, body):
            waiting = self.waiting.get(topic)
            if waiting:
                _, answer = waiting.pop(0)
                if not answer.done():
                    answer.set_result(body)
            else:
                self.inbox.put_nowait(("packet", topic, body))
        elif topic == "$error":
            self.failed(json.loads(body))
        elif topic == "$gap":
            gap = json.loads(body)
            self.inbox.put_nowait(("gap", gap["count"], gap["reason"]))
        elif topic == "$ping":
            self.pinged += 1
            if not self.mute:
                await self.socket.send(encode("$pong", body))
        elif topic == "$pong":
            if self.pongs:
                self.pongs.popleft().set_result(read_number(body))
        elif topic == "$drain":
            self.inbox.put_nowait(("drain", json.loads(body)))
        elif topic == "$token":
            self.inbox.put_nowait(("token", json.loads(body)))

    def failed(self, error):
        for entry in self.waiting.get(error["topic"], []):
            count, answer = entry
            if count == error["packet"]:
                self.waiting[error["topic"]].remove(entry)
                if not answer.done():
                    answer.set_exception(Refused(error))
                return
        self.inbox.put_nowait(("error", error))

    def fail_waiting(self, error):
        for waiting in self.waiting.values():
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
        self.waiting.clear()

    async def beat(self):
        """Sends a `$ping` within each interval: more often than need be, and simple."""
        while True:
            await asyncio.sleep(self.welcome["heartbeat"]["client_ms"] / 1000 * 0.8)
            if self.mute:
                continue
            try:
                await self.socket.send(encode("$ping", number(0)))
            except Lost:
                return

    async def send(self, topic, body=b"", entry=None):
        """A packet that counts. Kept, and sent again, when the connection is lost meanwhile."""
        async with self.writing:
            count, frame = self.session.packet(topic, body)
            if entry is not None:
                entry[0] = count
            try:
                if self.open:
                    await self.socket.send(frame)
            except Lost:
                pass
            return count

    async def request(self, method, body=b"", timeout=30):
        self.last_id += 1
        topic = f"{method}/{self.last_id}"
        answer = asyncio.get_running_loop().create_future()
        # Entered before it is sent: the answer may come while we still write.
        entry = [None, answer]
        self.waiting.setdefault(topic, []).append(entry)
        await self.send(topic, body, entry)
        return await asyncio.wait_for(answer, timeout)

    async def ping(self, value=1):
        pong = asyncio.get_running_loop().create_future()
        self.pongs.append(pong)
        await self.socket.send(encode("$ping", number(value)))
        return await asyncio.wait_for(pong, 30)

    async def bye(self):
        await self.socket.send(encode("$bye"))
        return await self.wait_end()

    def cut(self):
        self.socket.cut()
