"""A scripted WebSocket client on Python's `websockets`; the same contract as ws_client.mjs.

    python ws_client.py URL '[STEP, ...]' ['{"origin": "http://a", "deflate": true}']

STEP is one of
    {"send_hex": "0102"}   {"send_text": "hi"}   {"ping": "0102"} (waits for its pong)
    {"expect_hex": "0102"} {"expect_text": "hi"} {"expect_close": 1003} {"close": 1000}
Prints what happens as JSON lines. The exit code is 0 only if every step passed in time.
"""
import asyncio
import json
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Reporting(ClientConnection):
    """`websockets` answers pings and matches pongs out of sight; this shows them."""

    def process_event(self, event):
        if isinstance(event, Frame) and event.opcode in (Opcode.PING, Opcode.PONG):
            report(event.opcode.name.lower(), hex=bytes(event.data).hex())
        super().process_event(event)


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"wanted {wanted!r}, got {got!r}")


async def expect_close(socket, code):
    try:
        same(await socket.recv(), f"close {code}")
    except ConnectionClosed:
        report("close", code=socket.close_code, reason=socket.close_reason)
        same(socket.close_code, code)


async def expect_message(socket):
    message = await socket.recv()
    if isinstance(message, str):
        report("text", text=message)
    else:
        message = message.hex()
        report("message", hex=message)
    return message


async def run(socket, kind, value):
    match kind:
        case "send_hex":
            await socket.send(bytes.fromhex(value))
        case "send_text":
            await socket.send(value)
        case "expect_hex" | "expect_text":
            same(await expect_message(socket), value)
        case "expect_close":
            await expect_close(socket, value)
        case "ping":
            await (await socket.ping(bytes.fromhex(value)))
        case "close":
            await socket.close(value, "bye")
            await expect_close(socket, value)
        case _:
            raise AssertionError(f"unknown step {kind}")


async def main(url, steps, options):
    at = "open"
    try:
        async with asyncio.timeout(options.get("timeout_ms", 10_000) / 1000):
            async with connect(
                url,
                origin=options.get("origin"),
                compression="deflate" if options.get("deflate") else None,
                create_connection=Reporting,
                ping_interval=None,
                proxy=None,
            ) as socket:
                report("open", extensions=socket.response.headers.get("Sec-WebSocket-Extensions", ""))
                for at in steps:
                    ((kind, value),) = at.items()
                    await run(socket, kind, value)
        report("passed")
    except Exception as error:
        report("failed", step=at, message=f"{type(error).__name__}: {error}")
        return 1


sys.exit(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), json.loads((sys.argv + ["{}"])[3]))))
