#!/usr/bin/env python3
"""Prints a record file of `lockstep record`, one entry a line. Written from docs/log-format.md alone.

    scripts/show-log.py FILE
"""

import struct
import sys
import zlib

HEADER = struct.Struct("<4sHHIII")
HELLO, ENTRIES = 0, 3


class Damaged(Exception):
    pass


class Payload:
    """Reads values of bincode's standard configuration."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, length):
        value = self.data[self.at : self.at + length]
        if len(value) < length:
            raise Damaged("a payload is too short for its value")
        self.at += length
        return value

    def number(self):
        first = self.raw(1)[0]
        if first <= 250:
            return first
        if first > 253:
            raise Damaged(f"byte {first} where a number should begin")
        return int.from_bytes(self.raw({251: 2, 252: 4, 253: 8}[first]), "little")

    def bytes(self):
        return self.raw(self.number())

    def text(self):
        return self.bytes().decode()

    def digest(self):
        return self.raw(16).hex()

    def one_of(self, names):
        number = self.number()
        if number >= len(names):
            raise Damaged(f"variant {number} of {len(names)}")
        return names[number]


def time(payload):
    return f"{payload.number() / 1e9:.9f} s"


def dump(payload):
    data = payload.bytes()
    return f"{len(data)} bytes  {data[:32].hex()}{'…' if len(data) > 32 else ''}"


EVENTS = [
    ("Time", time),
    ("Tick", time),
    ("Interrupt", lambda p: f"vector {p.raw(1)[0]:#x}"),
    ("Frame", dump),
    ("ConsoleInput", dump),
    ("Entropy", dump),
    ("Step", lambda p: f"limit {p.number()}"),
    ("Output", lambda p: f"{p.one_of(['frame', 'console'])}  {p.digest()}"),
    ("Digest", Payload.digest),
    ("End", lambda p: f"{p.one_of(['reset', 'halted', 'triple fault'])}  {p.digest()}"),
    ("Clock", lambda p: f"{time(p)}  {p.number()} ps an instruction"),
]


def payloads(data):
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise Damaged(f"torn at byte {at}")
        magic, version, flags, length, payload_crc, header_crc = HEADER.unpack_from(data, at)
        if (magic, version, flags) != (b"LSTP", 2, 0) or zlib.crc32(data[at : at + 16]) != header_crc:
            raise Damaged(f"no frame of version 2 at byte {at}")
        payload = data[at + HEADER.size : at + HEADER.size + length]
        if len(payload) < length:
            raise Damaged(f"torn at byte {at}")
        if zlib.crc32(payload) != payload_crc:
            raise Damaged(f"wrong checksum of the payload at byte {at}")
        yield Payload(payload)
        at += HEADER.size + length


def show_hello(payload):
    for name in ("format version", "clock", "CPU model", "memory", "command line"):
        value = payload.number() if name in ("format version", "memory") else payload.text()
        print(f"# {name}: {value}")
    print(f"# kernel: {payload.digest()}")
    print(f"# how the kernel is entered: {payload.text()}")
    print(f"# initrd: {payload.digest() if payload.raw(1)[0] else 'none'}")
    print(f"# devices: {', '.join(payload.text() for _ in range(payload.number()))}")
    print(f"# boot: {payload.number()} s since 1970, seed {payload.raw(32).hex()}")


def show_entries(payload):
    for _ in range(payload.number()):
        seq, exits, instructions = (payload.number() for _ in range(3))
        name, fields = payload.one_of(EVENTS)
        print(f"{seq:>8}  {f'{exits}+{instructions}':>12}  {name:<12}  {fields(payload)}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    for payload in payloads(data):
        message = payload.number()
        if message == HELLO:
            show_hello(payload)
        elif message == ENTRIES:
            show_entries(payload)
        else:
            raise Damaged(f"message {message} has no place in a record")


try:
    main()
except BrokenPipeError:
    sys.stderr.close()
except (Damaged, OSError) as error:
    sys.exit(f"{sys.argv[1]}: {error}")
