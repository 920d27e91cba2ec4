"""Packet captures: the classic pcap format, as tcpdump -w writes it.

A file is a header of 24 bytes, whose first four tell the byte order and whether times are in micro- or
nanoseconds, and then for each packet a header of 16 bytes and the bytes that were kept of it. The newer
pcapng is recognised and refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ETHERNET = 1  # LINKTYPE_ETHERNET
_NANOSECONDS = {
    0xA1B2C3D4: 1000,
    0xA1B23C4D: 1,
}  # magic -> length of one unit of a packet's second time field
_PCAPNG = b"\n\r\r\n"
_LONGEST = 1 << 24  # no link has longer frames: a length beyond this means a damaged file


@dataclass(frozen=True)
class Packet:
    """One captured frame: when, in nanoseconds since 1970, and its bytes.

    ``length`` is what it had on the wire, more than ``len(data)`` where the capture kept only the beginning.
    """

    time_ns: int
    data: bytes
    length: int = -1

    def __post_init__(self) -> None:
        if self.length < 0:
            object.__setattr__(self, "length", len(self.data))

    def __bytes__(self) -> bytes:
        return self.data


def read_pcap(source: str | os.PathLike[str] | bytes) -> list[Packet]:
    """The packets of a capture, from its path or its bytes: either byte order, micro- or nanoseconds.

    Raises ValueError that names the offset where the file stops to make sense.
    """
    raw = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else Path(source).read_bytes()
    if len(raw) < 24:
        raise ValueError(f"no pcap file: the header has 24 bytes, the file ends at offset {len(raw)}")
    order = next((o for o in "<>" if struct.unpack_from(o + "I", raw)[0] in _NANOSECONDS), None)
    if order is None:
        if raw.startswith(_PCAPNG):
            raise ValueError("a pcapng file, not a pcap file; turn it into one: tcpdump -r FILE -w NEW")
        raise ValueError(f"no pcap file: at offset 0 it has {raw[:4].hex(' ')}, which is no magic number of pcap")
    unit = _NANOSECONDS[struct.unpack_from(order + "I", raw)[0]]
    packets: list[Packet] = []
    at = 24
    while at < len(raw):
        if len(raw) - at < 16:
            raise ValueError(f"packet {len(packets)}: its header begins at offset {at}, the file ends at {len(raw)}")
        seconds, parts, kept, length = struct.unpack_from(order + "4I", raw, at)
        if kept > _LONGEST:
            raise ValueError(f"packet {len(packets)}: the length at offset {at + 8} is {kept}: the file is damaged")
        at += 16
        if len(raw) - at < kept:
            raise ValueError(
                f"packet {len(packets)}: its {kept} bytes begin at offset {at}, the file ends at {len(raw)}"
            )
        packets.append(Packet(seconds * 1_000_000_000 + parts * unit, raw[at : at + kept], length))
        at += kept
    return packets


def write_pcap(
    path: str | os.PathLike[str],
    packets: Iterable[Packet | bytes],
    *,
    nanoseconds: bool = False,
    big: bool = False,
) -> None:
    """Writes packets, or plain bytes a microsecond apart, as Ethernet frames; ``big``: in big-endian order.

    Without ``nanoseconds`` times are cut to microseconds, which every reader knows.
    """
    order, unit = ">" if big else "<", 1 if nanoseconds else 1000
    magic = next(m for m, u in _NANOSECONDS.items() if u == unit)
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 1 << 18, ETHERNET)]
    for number, given in enumerate(packets):
        packet = given if isinstance(given, Packet) else Packet(number * 1000, bytes(given))
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        if not 0 <= seconds < 1 << 32:
            raise ValueError(f"packet {number}: pcap keeps times from 1970 to 2106, not {seconds} s after 1970")
        if len(packet.data) > _LONGEST:
            raise ValueError(f"packet {number}: {len(packet.data)} bytes are more than any frame has")
        parts.append(struct.pack(order + "4I", seconds, rest // unit, len(packet.data), packet.length) + packet.data)
    Path(path).write_bytes(b"".join(parts))
