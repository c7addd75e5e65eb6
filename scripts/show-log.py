#!/usr/bin/env python3
"""Prints a log file of lockstep with all its segments, one entry a line. Written from docs/log-format.md alone.

    scripts/show-log.py FILE

Needs libzstd.so.1, which every Debian has.
"""

import ctypes
import os
import struct
import sys
import zlib

HEADER = struct.Struct("<4sHHIII")
MAX_PLAIN_BYTES = 1_048_556
MAX_WINDOW_LOG = 20
KEEPERS = ["record", "primary", "backup"]
IMAGES = ["kernel", "initial RAM disk"]


class Damaged(Exception):
    pass


class Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer."""

    _fields_ = [("bytes", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]


class Stream:
    """A zstd stream that comes in pieces, each of which gives all that it stands for."""

    WINDOW_LOG_MAX = 100

    def __init__(self):
        self.zstd = ctypes.CDLL("libzstd.so.1")
        self.zstd.ZSTD_createDCtx.restype = ctypes.c_void_p
        self.zstd.ZSTD_getErrorName.restype = ctypes.c_char_p
        self.zstd.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
        self.zstd.ZSTD_isError.argtypes = [ctypes.c_size_t]
        step = self.zstd.ZSTD_decompressStream
        step.restype = ctypes.c_size_t
        step.argtypes = [ctypes.c_void_p, ctypes.POINTER(Buffer), ctypes.POINTER(Buffer)]
        self.context = ctypes.c_void_p(self.zstd.ZSTD_createDCtx())
        self.zstd.ZSTD_DCtx_setParameter(self.context, self.WINDOW_LOG_MAX, MAX_WINDOW_LOG)
        self.plain = ctypes.create_string_buffer(MAX_PLAIN_BYTES + 1)

    def piece(self, data):
        source = ctypes.create_string_buffer(data, len(data))
        piece = Buffer(ctypes.addressof(source), len(data), 0)
        plain = Buffer(ctypes.addressof(self.plain), len(self.plain), 0)
        while True:
            code = self.zstd.ZSTD_decompressStream(self.context, plain, piece)
            if self.zstd.ZSTD_isError(code):
                raise Damaged(self.zstd.ZSTD_getErrorName(code).decode())
            if plain.pos > MAX_PLAIN_BYTES:
                raise Damaged("a frame decompresses to more than its limit")
            if piece.pos == piece.size:
                return ctypes.string_at(self.plain, plain.pos)


class Payload:
    """Reads values."""

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

    def varint(self):
        value = 0
        for place in range(10):
            byte = self.raw(1)[0]
            if place > 0 and byte == 0 or place == 9 and byte > 1:
                break
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise Damaged("a varint is not in its shortest form")

    def difference(self, base):
        folded = self.varint()
        difference = folded >> 1 if folded % 2 == 0 else -(folded >> 1) - 1
        return (base + difference) % 2**64

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

    def end(self):
        if self.at < len(self.data):
            raise Damaged(f"{len(self.data) - self.at} bytes after a value")


class Entries:
    """Reads a batch of entries, each as its number, its position and its event."""

    def __init__(self, payload):
        self.payload, self.exits, self.instructions, self.guest_ns = payload, 0, 0, 0

    def all(self):
        first = self.payload.number()
        for seq in range(first, first + self.payload.number()):
            yield seq, self.position(), *self.event()

    def position(self):
        exits = self.payload.difference(self.exits)
        if exits == self.exits:
            self.instructions = self.payload.difference(self.instructions)
        else:
            self.instructions = self.payload.varint()
        self.exits = exits
        return f"{self.exits}+{self.instructions}"

    def event(self):
        name, fields = self.payload.one_of(self.EVENTS)
        return name, fields(self)

    def time(self):
        self.guest_ns = self.payload.difference(self.guest_ns)
        return f"{self.guest_ns // 10**9}.{self.guest_ns % 10**9:09} s"

    def data(self):
        data = self.payload.bytes()
        return f"{len(data)} bytes  {data[:32].hex()}{'…' if len(data) > 32 else ''}"

    def vector(self):
        return f"vector {self.payload.raw(1)[0]:#x}"

    def limit(self):
        return f"limit {self.payload.number()}"

    def output(self):
        return f"{self.payload.one_of(['frame', 'console', 'disk', 'disk read'])}  {self.payload.digest()}"

    def digest(self):
        return self.payload.digest()

    def reason(self):
        return f"{self.payload.one_of(['reset', 'halted', 'triple fault'])}  {self.payload.digest()}"

    def clock(self):
        return f"{self.time()}  {self.payload.number()} ps an instruction"

    def pages(self):
        part = self.payload.number()
        ranges = [(self.payload.number(), self.payload.number()) for _ in range(self.payload.number())]
        shown = ", ".join(f"{first}+{count}" for first, count in ranges)
        return f"part {part}  pages {shown}  {self.data()}"

    def state(self):
        return f"after {self.payload.number()} parts  {self.data()}"

    def disk(self):
        disk, request = self.payload.raw(1)[0], self.payload.varint()
        outcome, fields = self.payload.one_of(
            [
                ("done  ", self.data),
                ("done apart  ", lambda: f"{self.payload.number():08x}"),
                ("failed", str),
                ("unsupported", str),
            ]
        )
        return f"disk {disk}  request {request}  {outcome}{fields()}"

    EVENTS = [
        ("Time", time),
        ("Tick", time),
        ("Interrupt", vector),
        ("Frame", data),
        ("ConsoleInput", data),
        ("Entropy", data),
        ("Step", limit),
        ("Output", output),
        ("Digest", digest),
        ("End", reason),
        ("Clock", clock),
        ("Pages", pages),
        ("State", state),
        ("Disk", disk),
    ]


def frames(path):
    """What the frames of a segment say."""
    with open(path, "rb") as file:
        data = file.read()
    at, crc, stream = 0, 0, Stream()
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise Damaged(f"{path}: torn at byte {at}")
        magic, version, flags, length, payload_crc, header_crc = HEADER.unpack_from(data, at)
        if magic not in (b"LSLG", b"LSTP"):
            raise Damaged(f"{path}: no frame of a log at byte {at}")
        if version != 4:
            raise Damaged(f"{path}: format version {version}, not 4")
        if magic != b"LSLG" or zlib.crc32(data[at : at + 16]) != header_crc or flags != 0:
            raise Damaged(f"{path}: no good frame at byte {at}")
        payload = data[at + HEADER.size : at + HEADER.size + length]
        if len(payload) < length:
            raise Damaged(f"{path}: torn at byte {at}")
        crc = zlib.crc32(payload, crc)
        if crc != payload_crc:
            raise Damaged(f"{path}: wrong checksum of the payload at byte {at}")
        yield Payload(stream.piece(payload))
        at += HEADER.size + length


def read_header(payload):
    fields = {}
    fields["format version"] = payload.number()
    fields["clock"] = payload.text()
    fields["CPU model"] = payload.text()
    fields["memory"] = payload.number()
    fields["command line"] = payload.text()
    fields["kernel"] = payload.digest()
    fields["how the kernel is entered"] = payload.text()
    fields["initrd"] = payload.digest() if payload.raw(1)[0] else "none"
    fields["devices"] = ", ".join(payload.text() for _ in range(payload.number()))
    fields["boot"] = f"{payload.number()} s since 1970, seed {payload.raw(32).hex()}"
    fields["kept by"] = payload.one_of(KEEPERS)
    fields["program"] = payload.text()
    fields["written"] = f"{payload.number()} s since 1970"
    segment, first_seq = payload.number(), payload.number()
    return fields, segment, first_seq


def show_image(payload):
    kind, size, offset = payload.one_of(IMAGES), payload.number(), payload.number()
    if len(payload.bytes()) + offset == size:
        print(f"# {kind} of {size} bytes in the log")


def show_entries(payload, next_seq):
    for seq, position, name, fields in Entries(payload).all():
        if seq != next_seq:
            raise Damaged(f"entry {seq} instead of {next_seq}")
        next_seq += 1
        print(f"{seq:>8}  {position:>12}  {name:<12}  {fields}")
    return next_seq


def show_log(log):
    path, number, next_seq, log_fields = log, 0, None, None
    while True:
        continued = False
        rest = frames(path)
        header = next(rest, None)
        if header is None or header.number() != 0:
            raise Damaged(f"{path}: no header")
        fields, segment, first_seq = read_header(header)
        if log_fields is None:
            log_fields, next_seq = fields, first_seq
            for name, value in fields.items():
                print(f"# {name}: {value}")
        if (fields, segment, first_seq) != (log_fields, number, next_seq):
            raise Damaged(f"{path}: does not go on with this log")
        header.end()
        for payload in rest:
            value = payload.number()
            if value == 1 and number == 0 and not continued:
                show_image(payload)
            elif value == 2 and not continued:
                next_seq = show_entries(payload, next_seq)
            elif value == 3 and not continued:
                continued = True
            else:
                raise Damaged(f"{path}: value {value} has no place here")
            payload.end()
        number += 1
        path = f"{log}.{number}"
        if not os.path.exists(path):
            if continued:
                raise Damaged(f"{path}: missing")
            return


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    show_log(sys.argv[1])


try:
    main()
except BrokenPipeError:
    sys.stderr.close()
except (Damaged, OSError) as error:
    sys.stdout.flush()
    sys.exit(f"{sys.argv[1]}: {error}")
