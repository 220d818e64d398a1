"""Writes crates/protocol/tests/data/legacy.txt: frames in each form, for the golden tests.

Made with the AES of OpenSSL (PyPI `cryptography`), from the definition in docs/protocol.md and
not from Tidegate's code. Usage, from the root of the repository:

    target/tools/venv/bin/python tests/tools/legacy_golden.py > crates/protocol/tests/data/legacy.txt

A line: form, key in hex, topic, body, frame. A body is `pattern:N`, whose byte i is
(7 i + 3) mod 256, or hex behind `hex:`. A frame is hex, or for a long one `sha1:HASH:LENGTH`.
"""
import base64
import hashlib
import struct

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY = b"0123456789abcdefghijklmnopqrstuvwxyzABCD"
ECB_KEYS = (1, 5, 15, 16, 17, 24, 32, 40)
CBC_KEYS = (16, 24, 32)
MAX_FRAME = 65535


def aes(key: bytes, mode, text: bytes) -> bytes:
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), mode).encryptor()
    return encryptor.update(padder.update(text) + padder.finalize()) + encryptor.finalize()


def fold(key: bytes) -> bytes:
    folded = bytearray(16)
    for i, byte in enumerate(key):
        folded[i % 16] ^= byte
    return bytes(folded)


def frame(form: str, key: bytes, topic: bytes, body: bytes) -> bytes:
    rest = struct.pack("<H", len(topic)) + topic + body
    if form == "aes-ecb":
        rest = base64.b64encode(aes(fold(key), modes.ECB(), base64.b64encode(rest)))
    elif form == "aes-cbc":
        rest = aes(key, modes.CBC(key[-16:]), base64.b64encode(rest))
    return struct.pack("<H", 2 + len(rest)) + rest


def pattern(length: int) -> bytes:
    return bytes((7 * i + 3) % 256 for i in range(length))


def largest_body(form: str, topic: bytes) -> int:
    """By trying, so as to need no formula. Lengths do not depend on the key."""
    low, high = 0, MAX_FRAME
    while low < high:
        middle = (low + high + 1) // 2
        try:
            fits = len(frame(form, KEY[:16], topic, bytes(middle))) <= MAX_FRAME
        except struct.error:
            fits = False
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def line(form: str, key: bytes, topic: str, body: bytes, shown: str) -> None:
    bytes_ = frame(form, key, topic.encode(), body)
    written = bytes_.hex()
    if len(bytes_) > 1000:
        written = f"sha1:{hashlib.sha1(bytes_).hexdigest()}:{len(bytes_)}"
    print(form, key.hex() or "-", topic, shown, written)


def main() -> None:
    print("# Written by tests/tools/legacy_golden.py, which says what the fields are.")
    forms = [("plain", b"")]
    forms += [("aes-ecb", KEY[:length]) for length in ECB_KEYS]
    forms += [("aes-cbc", KEY[:length]) for length in CBC_KEYS]
    for form, key in forms:
        line(form, key, "svc/echo/1", b"hello", "hex:" + b"hello".hex())
        # The smallest packet; then each place of the end in a block, and block ends.
        line(form, key, "a", b"", "pattern:0")
        for length in (*range(0, 14), 47, 48, 49, 300):
            line(form, key, "a/b", pattern(length), f"pattern:{length}")
        line(form, key, "聊天/说/ü", pattern(3), "pattern:3")
        length = largest_body(form, b"a/b")
        line(form, key, "a/b", pattern(length), f"pattern:{length}")


main()
