"""CGROUP_STORAGE and its per-CPU form: attaching a program that uses such a map makes a value, on both sides.

A cgroup's id is the host's own, so a transcript names the group instead.
"""

import struct

import fields
import wire
from attach import AT_DEVICE, CGROUP_DEVICE, CGROUP_SKB, EGRESS, INGRESS, MULTI, OVERRIDE, REPLACE
from wire import Buffer

CGROUP_STORAGE, PERCPU_CGROUP_STORAGE, PROG_BIND_MAP = 19, 21, 35
LOCK = 4
VALUE, CPUS = 8, 64  # room for the values of so many CPUs


class Storages:
    """One map of a side, and the groups that its keys name."""

    def __init__(self, s, map_type, key_size, *, field=None):
        """field: a special field that the value begins with; BTF tells it."""
        self.s, self.size, self.percpu = s, key_size, map_type == PERCPU_CGROUP_STORAGE
        self.value, self.ids = 40 if field else VALUE, {}
        self.fd = self.with_field(map_type, field) if field else s.map_create(map_type, key_size, VALUE, 0)

    def with_field(self, map_type, field):
        types, attr = fields.Types(), bytearray(wire.ATTR_SIZE)
        key = types.integer(8)
        if self.size == 16:
            key = types.struct("key", 16, ("id", key, 0), ("type", types.int, 8))
        value = fields.one_value(types, field, size=self.value)
        struct.pack_into("<4I", attr, 0, map_type, self.size, self.value, 0)
        struct.pack_into("<3I", attr, 48, types.load(self.s, field) & 0xFFFFFFFF, key, value)
        return self.s.call(f"MAP_CREATE type {map_type} with {field}", wire.MAP_CREATE, attr, fd=True)

    def knows(self, name, group):
        """A link tells the id of its cgroup."""
        s, raw, attr = self.s, Buffer(bytes(64)), bytearray(wire.ATTR_SIZE)
        link = s.link(s.prog(CGROUP_DEVICE), group, AT_DEVICE)
        struct.pack_into("<IIQ", attr, 0, link & 0xFFFFFFFF, 64, raw.address)
        s.call("id of the group", wire.OBJ_GET_INFO_BY_FD, attr)
        self.ids[name] = struct.unpack_from("<Q", bytes(raw), 16)[0]
        s.close(link)

    def key(self, name, at):
        return struct.pack("<QII", self.ids.get(name, 1 << 40), at, 0)[: self.size]

    def named(self, key):
        if len(key) == 8:
            key += bytes(8)
        number, at, pad = struct.unpack("<QII", key)
        return f"{next((n for n, i in self.ids.items() if i == number), hex(number))} at {at} {pad}"

    def element(self, what, cmd, name, at, *, value=0, flags=0):
        key = Buffer(self.key(name, at))
        values = Buffer(struct.pack("<Q", value) * (CPUS if self.percpu else self.value // 8))
        attr = bytearray(wire.ATTR_SIZE)
        pointers = key.address, values.address if cmd != wire.MAP_DELETE_ELEM else 0
        struct.pack_into("<IIQQQ", attr, 0, self.fd & 0xFFFFFFFF, 0, *pointers, flags)
        self.s.call(f"{what} {name} at={at} flags={flags:#x}", cmd, attr)
        self.s.note(f"  {bytes(values)[: self.value].hex()}")

    def walk(self):
        key = None
        for _ in range(20):
            before, after, attr = Buffer(key or b"\0"), Buffer(b"\xee" * self.size), bytearray(wire.ATTR_SIZE)
            pointers = before.address if key else 0, after.address
            struct.pack_into("<IIQQ", attr, 0, self.fd & 0xFFFFFFFF, 0, *pointers)
            if self.s.call("GET_NEXT_KEY", wire.MAP_GET_NEXT_KEY, attr):
                break
            key = bytes(after)
            self.s.note(f"  {self.named(key)}")

    def show(self, *places):
        self.walk()
        for name, at in places:
            self.element("LOOKUP", wire.MAP_LOOKUP_ELEM, name, at)

    def update(self, name, at, value, flags=0):
        self.element("UPDATE", wire.MAP_UPDATE_ELEM, name, at, value=value, flags=flags)


def user_of(s, *maps, answer=1):
    """A program that names the maps and returns."""
    code = b"".join(struct.pack("<BBhiq", 0x18, 0x11, 0, fd, 0) for fd in maps)
    code += struct.pack("<BBhiBBhi", 0xB7, 0, 0, answer, 0x95, 0, 0, 0)
    fd = s.prog_load(f"with {len(maps)} maps", code, CGROUP_SKB)
    s.id_of(fd, "prog")
    return fd


def values_come_by_attaching(map_type, key_size):
    def case(s):
        for path in ("a", "a/b"):
            s.directory("mkdir", path)
        top, below = s.cgroup("a"), s.cgroup("a/b")
        values = Storages(s, map_type, key_size)
        values.knows("a", top)
        values.knows("b", below)
        everywhere = [(name, at) for name in ("a", "b", "none") for at in (INGRESS, EGRESS)]
        one, two, plain = user_of(s, values.fd), user_of(s, values.fd, answer=0), s.prog()
        values.show(*everywhere)
        s.attach(top, plain, INGRESS, MULTI)
        s.attach(top, one, INGRESS, OVERRIDE)  # refused: no value comes of it
        s.attach(top, one, INGRESS, MULTI, revision=9)
        values.show(*everywhere)
        s.attach(top, one, INGRESS, MULTI)
        values.show(*everywhere)
        for flags in (0, 1, 2, 3, 4, 5, 6, 1 << 63):
            values.update("a", INGRESS, 7 + flags % 100, flags)
            values.show(("a", INGRESS))
        s.attach(top, two, INGRESS, MULTI)  # shares it
        values.show(*everywhere)
        s.attach(top, two, EGRESS, MULTI)
        link = s.link(one, below, EGRESS)
        values.show(*everywhere)
        values.update("b", EGRESS, 99)
        values.element("DELETE", wire.MAP_DELETE_ELEM, "b", EGRESS)
        s.detach(top, one, INGRESS)
        s.detach(top, two, INGRESS)
        s.close(link)
        values.show(*everywhere)  # they stay
        s.attach(below, one, EGRESS, MULTI)
        values.show(*everywhere)
        s.directory("rmdir", "a/b")
        values.show(*everywhere)
        s.close(values.fd)
        s.attach(top, one, INGRESS, MULTI)

    case.__name__ = f"values_come_by_attaching_{map_type}_{key_size}"
    return case


def a_program_has_one_of_each_type(s):
    top = s.cgroup("")
    values = [Storages(s, t, 16) for t in (CGROUP_STORAGE, CGROUP_STORAGE, PERCPU_CGROUP_STORAGE)]
    for v in values:
        v.knows("top", top)
    fds = [v.fd for v in values]
    user_of(s, fds[0], fds[1])
    both, none = user_of(s, fds[0], fds[2], fds[0]), s.prog()
    for prog, fd in ((none, fds[0]), (both, fds[1])):
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<III", attr, 0, prog & 0xFFFFFFFF, fd & 0xFFFFFFFF, 0)
        s.call("PROG_BIND_MAP", PROG_BIND_MAP, attr)
    s.attach(top, none, EGRESS, MULTI)  # bound, but not used: no value
    s.attach(top, both, INGRESS, MULTI)
    for v in values:
        v.show(("top", INGRESS), ("top", EGRESS))
    other = user_of(s, fds[1])
    s.attach(top, other, INGRESS, MULTI | REPLACE, replace=both)
    link = s.link(none, top, EGRESS)
    s.update(link, other)  # a link's new program gets none
    for v in values:
        v.show(("top", INGRESS), ("top", EGRESS))


def a_value_with_a_lock(s):
    """BPF_F_LOCK where the value has a bpf_spin_lock and where it has another field, or none."""
    top = s.cgroup("")
    for size in (8, 16):
        for field in ("bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_refcount", None):
            Storages(s, PERCPU_CGROUP_STORAGE, size, field=field)
            values = Storages(s, CGROUP_STORAGE, size, field=field)
            values.knows("top", top)
            if values.fd < 0:
                continue
            prog = user_of(s, values.fd)
            values.update("top", INGRESS, 1, LOCK)  # there is nothing yet
            s.attach(top, prog, INGRESS, MULTI)
            for flags in (LOCK, LOCK | 2, 0, LOCK | 1, 2, LOCK | 3, LOCK | 8, 1 << 63):
                values.update("top", INGRESS, 0x1111111111111111 * (flags % 14 + 1), flags)
                for lookup in (0, LOCK, LOCK | 2):
                    values.element("LOOKUP", wire.MAP_LOOKUP_ELEM, "top", INGRESS, flags=lookup)
            s.detach(top, prog, INGRESS)


WRITTEN = (
    a_value_with_a_lock,
    *(values_come_by_attaching(t, size) for t in (CGROUP_STORAGE, PERCPU_CGROUP_STORAGE) for size in (16, 8)),
    a_program_has_one_of_each_type,
)
