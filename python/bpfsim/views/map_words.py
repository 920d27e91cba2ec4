"""What a map holds, in words: from what each type tells of its inside (sim/map/view.h)."""

from __future__ import annotations

import ipaddress
import pprint
from typing import Any

from .drawing import cut

_SCALARS = {1, 2, 4, 8}


def shown(raw: bytes) -> str:
    """Bytes as a reader wants them: 1, 2, 4 or 8 as a number, words as words, the rest in hex."""
    if len(raw) in _SCALARS:
        return str(int.from_bytes(raw, "little"))
    text = raw.rstrip(b"\0")
    if text and all(32 <= byte < 127 for byte in text):
        return repr(text.decode())
    return raw.hex(" ") if raw else ""


def prefix(data: bytes, length: int, exact: bool = False) -> str:
    """A prefix of a trie: 10.1.0.0/16 where the data has 4 bytes, 2001:db8::/32 where 16, else its bits.

    ``exact`` leaves out the bits after it.
    """
    if exact:
        rest = 8 * len(data) - length
        kept = int.from_bytes(data, "big") >> rest << rest
        data = kept.to_bytes(len(data), "big")
    if len(data) in (4, 16):
        return f"{ipaddress.ip_address(data)}/{length}"
    bits = "".join(f"{byte:08b}" for byte in data)[:length]
    return (cut(bits, 24) or "(empty)") + f"/{length}"


def contents(data: dict[str, Any]) -> dict[str, str]:
    """What a map holds, in words: a value by its key, or by its place where there are no keys.

    How it lies does not count: two hashes with the same elements are the same. An arena's pages are not looked into.
    A type in Python has its ``map.state``, where that has a text which does not name an address.
    """
    match data["kind"]:
        case "array":
            return {shown(e["key"]): ", ".join(map(shown, e["values"])) for e in data["elements"]}
        case "hash" | "lru":
            elements = [e for _, chain in data["buckets"] for e in chain]
            return {shown(e["key"]): ", ".join(map(shown, e["values"])) for e in elements}
        case "trie":
            held = [node for node in data["nodes"] if not node["intermediate"]]
            return {prefix(n["data"], n["prefixlen"], exact=True): shown(n["value"]) for n in held}
        case "objects":
            return {shown(key): label for key, _, label in data["slots"]}
        case "ring":
            return {str(place): shown(value) for place, (_, value) in enumerate(data["slots"])}
        case "bloom":
            return {"bits": data["bits"].hex()}
        case "ringbuf":
            return {
                str(place): f"{length} bytes, {record_state(busy, discarded)}: {shown(begin)}"
                for place, (_, busy, discarded, length, begin) in enumerate(data["records"])
            }
        case "owned":
            return {f"{label} {at}".strip(): ", ".join(map(shown, values)) for _, label, at, values in data["owned"]}
        case "stacks":
            return {str(id_): frames_shown(frames) for id_, _, frames in data["traces"]}
        case "none" if "state" in data:
            text = pprint.saferepr(data["state"])  # which puts a dict's keys in order
            return {} if " at 0x" in text else {"state": text}
    return {}


def compared(data: dict[str, Any], limit: int) -> str:
    """Why ``contents`` is not all that a map holds, of which ``limit`` elements were asked for; empty where it is."""
    if data["kind"] == "none" and "state" not in contents(data):
        return "its map.state has no text of its own" if "state" in data else "its contents are not known here"
    if data["kind"] == "pages":
        return "what its pages hold"
    if data["kind"] == "ringbuf" and any(size > len(begin) for _, _, _, size, begin in data["records"]):
        return "what its records hold after the first 32 bytes"
    return f"more than {limit} elements" if len(contents(data)) >= limit else ""


def record_state(busy: bool, discarded: bool) -> str:
    """How a record of a ring buffer stands."""
    return "busy" if busy else "discarded" if discarded else "committed"


def frames_shown(frames: list[int]) -> str:
    """The addresses of a stack trace."""
    return " ".join(f"0x{frame:x}" for frame in frames)


def member_value(value: str | bytes) -> str:
    """The value of a struct_ops member: a program's label, or bytes."""
    return value if isinstance(value, str) else shown(value)


def bits_set(data: dict[str, Any]) -> list[int]:
    """The bits of a bloom filter that are set."""
    return [8 * at + bit for at, byte in enumerate(data["bits"]) for bit in range(8) if byte >> bit & 1]
