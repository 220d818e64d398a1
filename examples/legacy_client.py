"""An old client: plain, aes-ecb or aes-cbc frames over TCP. Not safe without TLS around it.
Usage: python3 examples/legacy_client.py host:port plain|aes-ecb|aes-cbc [key]   (needs `cryptography`)
"""
import base64
import socket
import struct
import sys
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

address, form = sys.argv[1:3]
key = sys.argv[3].encode() if form != "plain" else b""
if form == "aes-ecb":  # byte i of the key goes by XOR into byte i mod 16
    k16 = [0] * 16
    for i, byte in enumerate(key):
        k16[i % 16] ^= byte
    aes = Cipher(algorithms.AES(bytes(k16)), modes.ECB())
elif form == "aes-cbc":
    aes = Cipher(algorithms.AES(key), modes.CBC(key[-16:]))

def pack(topic: bytes, body: bytes) -> bytes:
    rest = struct.pack("<H", len(topic)) + topic + body
    if form != "plain":
        pad, lock = padding.PKCS7(128).padder(), aes.encryptor()
        rest = lock.update(pad.update(base64.b64encode(rest)) + pad.finalize()) + lock.finalize()
    rest = base64.b64encode(rest) if form == "aes-ecb" else rest
    return struct.pack("<H", 2 + len(rest)) + rest

def read_packet(stream) -> tuple[bytes, bytes]:
    rest = stream.read(struct.unpack("<H", stream.read(2))[0] - 2)
    rest = base64.b64decode(rest) if form == "aes-ecb" else rest
    if form != "plain":
        pad, lock = padding.PKCS7(128).unpadder(), aes.decryptor()
        rest = base64.b64decode(pad.update(lock.update(rest) + lock.finalize()) + pad.finalize())
    end = 2 + struct.unpack("<H", rest[:2])[0]
    return rest[2:end], rest[end:]

with socket.create_connection(address.rsplit(":", 1), timeout=5) as gate:
    gate.sendall(pack(b"echo/echo/1", b"hello"))
    print(b" ".join(read_packet(gate.makefile("rb"))).decode())
