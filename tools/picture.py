"""Draws README's picture, docs/objects.svg: the objects of a program that is loaded, attached and pinned."""

from pathlib import Path

import bpfsim

PROGRAM = """
    r1 = map[packets]
    r0 = 1
    exit
"""


def main() -> None:
    k = bpfsim.Kernel()
    task = k.spawn("bash")
    packets = task.map_create("array", max_entries=256, name="packets")
    prog = task.prog_load("xdp", PROGRAM, name="first", maps={"packets": packets})
    link = task.link_create(prog, k.net_device("eth0"))
    packets.pin("/sys/fs/bpf/packets")
    picture = k.graph().svg().replace("<defs>", '<rect width="100%" height="100%" fill="#fff"/><defs>', 1)
    (Path(__file__).resolve().parent.parent / "docs" / "objects.svg").write_text(picture + "\n")
    link.close()


if __name__ == "__main__":
    main()
