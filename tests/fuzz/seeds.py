"""Writes the seeds of fuzz_sys_bpf into tests/fuzz/corpus/sys_bpf: short scripts of calls that succeed."""

import struct
from pathlib import Path

INSNS, LICENSE, KEY, VALUE, PATH = 0, 32, 40, 48, 64
BLOCK = (
    bytes.fromhex("b700000002000000 9500000000000000".replace(" ", "")).ljust(32, b"\0")
    + b"GPL".ljust(8, b"\0")
    + (1).to_bytes(8, "little")
    + (7).to_bytes(16, "little")
    + b"/sys/fs/bpf/p".ljust(32, b"\0")
)


def call(command: int, attr: bytes) -> bytes:
    return bytes([command, len(attr)]) + attr


def script(*calls: bytes) -> bytes:
    """The block fills the first half of the input, the calls the second."""
    tail = b"".join(calls)
    half = max(len(BLOCK), len(tail))
    return BLOCK.ljust(half, b"\0") + tail.ljust(half, b"\xff")


def create(kind: int, key: int = 4) -> bytes:
    return call(0, struct.pack("<IIII", kind, key, 8, 4))


def element(command: int, fd: int, key: int = KEY) -> bytes:
    return call(command, struct.pack("<IIQQQ", fd, 0, key, VALUE, 0))


def load(kind: int) -> bytes:
    return call(5, struct.pack("<IIQQ", kind, 2, INSNS, LICENSE))


RUN = call(10, struct.pack("<IIIIQQ", 3, 0, 64, 0, 0, 0))
SEEDS = {
    "hash": script(create(1), element(2, 3), element(1, 3), element(4, 3), element(3, 3), element(21, 3)),
    "array": script(create(2), element(2, 3), element(1, 3)),
    "percpu": script(create(5), element(2, 3), element(1, 3)),
    "queue": script(create(22, 0), element(2, 3, 0), element(1, 3, 0), element(21, 3, 0)),
    "lpm": script(call(0, struct.pack("<IIIII", 11, 8, 8, 4, 1)), element(2, 3), element(1, 3)),
    "xdp": script(load(6), RUN, call(6, struct.pack("<QI", PATH, 3)), call(7, struct.pack("<QI", PATH, 0))),
    "link": script(load(6), call(28, struct.pack("<IIII", 3, 2, 37, 0)), call(34, struct.pack("<I", 4))),
    "ids": script(load(1), call(11, struct.pack("<II", 0, 0)), call(13, struct.pack("<I", 1)), RUN),
}


def main() -> None:
    folder = Path(__file__).parent / "corpus" / "sys_bpf"
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        (folder / name).write_bytes(seed)


if __name__ == "__main__":
    main()
