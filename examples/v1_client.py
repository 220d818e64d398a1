"""A plain Tidegate v1 client. Usage: python3 examples/v1_client.py [host:port]

Frame: u16 total | u16 topic_len | topic | body. Integers are little-endian, and
`total` counts the whole frame, its own two bytes too.
"""
import socket
import struct
import sys


def pack(topic: str, body: bytes) -> bytes:
    name = topic.encode()
    return struct.pack("<HH", 4 + len(name) + len(body), len(name)) + name + body


def read_packet(stream) -> tuple[str, bytes]:
    total, topic_len = struct.unpack("<HH", stream.read(4))
    rest = stream.read(total - 4)
    return rest[:topic_len].decode(), rest[topic_len:]


host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3653").rpartition(":")
with socket.create_connection((host, int(port)), timeout=5) as gate:
    # service "echo", method "echo", request id "1": the answer comes under the same topic
    gate.sendall(pack("echo/echo/1", b"hello"))
    topic, body = read_packet(gate.makefile("rb"))
    print(topic, body.decode())
