"""Elements of local storages: the key is a descriptor, and what it must be depends on the type."""

import os
import socket
import struct

import creation
import fields
import wire
from wire import Buffer

LOCK = 4


class Storage:
    """One map of a side, and the descriptors that stand for its owners."""

    def __init__(self, side, usual, value=None):
        """value: its size, the BTF's descriptor and the number of its type there; an int otherwise."""
        self.side, maker = side, creation.Creator(side, usual)
        self.size, types, value_type = value or (4, maker.btf, 1)
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<7I", attr, 0, usual.number, 4, self.size, 0, usual.flags, 0, 0)
        struct.pack_into("<5I", attr, 44, 0, types & 0xFFFFFFFF, 1, value_type, 0)
        self.map = side.call("create", wire.MAP_CREATE, attr, fd=True)
        pidfd = side.task.pidfd_open(side.task.pid) if hasattr(side.task, "pidfd_open") else os.pidfd_open(os.getpid())
        side.open.append(pidfd)
        # The simulated task's terminal answers for any file that is none of BPF's.
        other = 0
        if not hasattr(side.task, "pidfd_open"):
            side.open.append(other := os.open("/dev/null", os.O_RDWR))
        if hasattr(side.task, "socket"):
            sock = side.task.socket()
        else:
            sock = socket.socket().detach()
        side.open.append(sock)
        self.owners = {
            "socket": sock,
            "pidfd": pidfd,
            "map": self.map,
            "BTF": maker.btf,
            "file": other,
            "none": 9999,
            "-1": -1,
        }

    def element(self, what, cmd, owner, value=7, flags=0):
        key, room = Buffer(struct.pack("<i", self.owners[owner])), Buffer(struct.pack("<I", value) * (self.size // 4))
        attr = bytearray(wire.ATTR_SIZE)
        pointers = (key.address, room.address if cmd != wire.MAP_DELETE_ELEM else 0)
        struct.pack_into("<IIQQQ", attr, 0, self.map & 0xFFFFFFFF, 0, *pointers, flags)
        self.side.call(f"{what} {owner} flags={flags:#x}", cmd, attr)
        self.side.note(f"  {bytes(room).hex()}")


def elements(usual):
    def run(side):
        storage = Storage(side, usual)
        for owner in storage.owners:
            for flags in (0, 1, 2, 3, 4, 5, 8, 1 << 63):
                storage.element("LOOKUP", wire.MAP_LOOKUP_ELEM, owner, flags=flags)
                storage.element("UPDATE", wire.MAP_UPDATE_ELEM, owner, value=flags & 0xFFFF, flags=flags)
                storage.element("LOOKUP", wire.MAP_LOOKUP_ELEM, owner)
                storage.element("TAKE", wire.MAP_LOOKUP_AND_DELETE_ELEM, owner, flags=flags)
            storage.element("DELETE", wire.MAP_DELETE_ELEM, owner)
            storage.element("DELETE", wire.MAP_DELETE_ELEM, owner)
            storage.element("UPDATE", wire.MAP_UPDATE_ELEM, owner, flags=2)
            storage.element("UPDATE", wire.MAP_UPDATE_ELEM, owner, flags=1)
            storage.element("NEXT", wire.MAP_GET_NEXT_KEY, owner)
        for owner in storage.owners:  # what one owner has, others may see
            storage.element("LOOKUP", wire.MAP_LOOKUP_ELEM, owner)
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<I", attr, 0, storage.map)
        side.call("FREEZE", wire.MAP_FREEZE, attr)
        for owner in ("pidfd", "socket"):
            storage.element("UPDATE", wire.MAP_UPDATE_ELEM, owner)
            storage.element("DELETE", wire.MAP_DELETE_ELEM, owner)

    run.__name__ = "elements_" + next(name for name, row in creation.TYPES.items() if row is usual)
    return run


def values_with_fields(usual):
    """BPF_F_LOCK where the value has a lock and where not; special fields are left alone."""

    def run(side):
        for name in ("bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_refcount"):
            types = fields.Types()
            number = fields.one_value(types, name, size=40)
            storage = Storage(side, usual, (40, types.load(side, name), number))
            for owner in ("socket", "pidfd", "map"):
                for value, flags in enumerate((LOCK, LOCK | 2, LOCK | 1, 0, LOCK, LOCK | 2, LOCK | 1, 2, 1, LOCK | 3)):
                    storage.element("UPDATE", wire.MAP_UPDATE_ELEM, owner, value=0x11111111 * value, flags=flags)
                    storage.element("LOOKUP", wire.MAP_LOOKUP_ELEM, owner)
                    storage.element("LOOKUP", wire.MAP_LOOKUP_ELEM, owner, flags=LOCK)
                storage.element("DELETE", wire.MAP_DELETE_ELEM, owner)
                storage.element("UPDATE", wire.MAP_UPDATE_ELEM, owner, value=7, flags=LOCK)
                storage.element("LOOKUP", wire.MAP_LOOKUP_ELEM, owner)
            side.close()

    run.__name__ = "values_with_fields_" + next(name for name, row in creation.TYPES.items() if row is usual)
    return run


STORAGES = [creation.TYPES[name] for name in ("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE")]
CASES = [make(usual) for make in (elements, values_with_fields) for usual in STORAGES]
