"""Special fields in map values: what BTF_LOAD and MAP_CREATE say of them, and what copying does with their bytes."""

import random
import struct

import btf_bytes
import wire
from commands import (
    ARRAY,
    ARRAY_OF_MAPS,
    HASH,
    LRU_HASH,
    LRU_PERCPU_HASH,
    MMAPABLE,
    MODELLED,
    NO_PREALLOC,
    PERCPU_ARRAY,
    PERCPU_HASH,
    RDONLY_PROG,
    WRONLY_PROG,
    ZERO_SEED,
    usual,
    value_room,
)
from wire import Buffer

LOCK = 4
FIELDS = {
    "bpf_spin_lock": 4,
    "bpf_res_spin_lock": 4,
    "bpf_timer": 16,
    "bpf_wq": 16,
    "bpf_task_work": 8,
    "bpf_list_head": 16,
    "bpf_list_node": 24,
    "bpf_rb_root": 16,
    "bpf_rb_node": 32,
    "bpf_refcount": 4,
}
TAGS = ("kptr", "kptr_untrusted", "percpu_kptr", "uptr", "kptr_ref", "other")


class Types(btf_bytes.Types):
    """With the kernel's special structs, and loaded on either side."""

    def __init__(self):
        super().__init__()
        self.u8 = self.add(btf_bytes.integer(8, 1, name="u8"))
        self.known = {}

    def special(self, name, size=None):
        """struct bpf_spin_lock and the others, each once."""
        if (name, size) not in self.known:
            full = FIELDS[name] if size is None else size
            member = ("opaque", self.array(self.u8, full), 0)
            self.known[name, size] = self.struct(name, full, member)
        return self.known[name, size]

    def decl_tag(self, name, target, component):
        return self.add(btf_bytes.of("decl_tag", name, target, component))

    def load(self, s, what):
        raw = Buffer(self.blob)
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<QQI", attr, 0, raw.address, 0, raw.size)
        return s.call(f"BTF_LOAD {what}", wire.BTF_LOAD, attr, fd=True)


def create(s, what, kind, sizes, value_type, *, key_type=1, flags=0):
    """MAP_CREATE with types; sizes: of key and value; value_type: (BTF descriptor, number)."""
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<5I", attr, 0, kind, *sizes, 1 if key_type == 0 else 4, flags)
    struct.pack_into("<III", attr, 48, value_type[0] & 0xFFFFFFFF, key_type, value_type[1])
    return s.call(f"MAP_CREATE type {kind} flags {flags:#x} {what}", wire.MAP_CREATE, attr, fd=True)


def freeze(s, fd):
    """524 for a map with special fields."""
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<I", attr, 0, fd & 0xFFFFFFFF)
    s.call("FREEZE", wire.MAP_FREEZE, attr)


def one_value(types, name, at=8, size=64):
    """A value of 64 bytes with one special field in it."""
    return types.struct("value", size, ("plain", types.int, 0), ("field", types.special(name), at))


def which_maps_hold_which_fields(s):
    for name in FIELDS:
        for kind in MODELLED:
            types = Types()
            value = one_value(types, name)
            fd = types.load(s, name)
            key, _, _, flags = usual(kind)
            if kind in (HASH, LRU_HASH):
                flags = 0
            what = f"with a {name}"
            made = create(s, what, kind, (key, 64), (fd, value), flags=flags, key_type=1 if key else 0)
            freeze(s, made)
            for access in (RDONLY_PROG, WRONLY_PROG, MMAPABLE):
                create(s, what, kind, (key, 64), (fd, value), flags=flags | access, key_type=1 if key else 0)
            s.close()


def programs_that_name_maps_with_fields(s):
    """By the program's type: those that trace may not name a map with a lock, a timer, a list."""
    for name in ("plain", *FIELDS):
        types = Types()
        value = one_value(types, name) if name in FIELDS else types.array(types.int, 16)
        made = create(s, f"with a {name}", HASH, (4, 64), (types.load(s, name), value))
        if made < 0:
            continue
        code = struct.pack("<BBhiq", 0x18, 0x11, 0, made, 0) + struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
        for kind in (1, 2, 3, 5, 6, 7, 8, 17, 24):
            for flags in (0, 16):
                s.prog_load(f"type {kind} flags {flags} with a {name}", code, kind, at44=flags)
        s.close()


def fields_that_are_not_quite(s):
    """Sizes, places, names, repetition, nesting, unions, sections."""

    def each(what, make, size=64, flags=0):
        types = Types()
        value = make(types)
        fd = types.load(s, what)
        for kind in (ARRAY, HASH, PERCPU_ARRAY, LRU_HASH, PERCPU_HASH):
            freeze(s, create(s, what, kind, (4, size), (fd, value), flags=flags))
        s.close()

    for name, full in FIELDS.items():
        for at in (0, 4, 2, 12):
            each(f"{name} at {at}", lambda t, name=name, at=at: one_value(t, name, at))
        for size in (full - 1, full + 4, 8, 4, 16):
            each(
                f"{name} of {size} bytes",
                lambda t, name=name, size=size: t.struct("v", 64, ("f", t.special(name, size), 8)),
            )
        for elements in (0, 1, 2):
            each(
                f"{elements} {name} in a row",
                lambda t, name=name, elements=elements: t.struct(
                    "v", 128, ("f", t.array(t.special(name), elements), 8)
                ),
                128,
            )
        each(
            f"two {name}",
            lambda t, name=name: t.struct("v", 128, ("f", t.special(name), 8), ("g", t.special(name), 48)),
            128,
        )
        each(
            f"two {name} at one place",
            lambda t, name=name: t.struct("v", 64, ("f", t.special(name), 8), ("g", t.special(name), 8)),
        )
        each(
            f"{name} behind a typedef",
            lambda t, name=name: t.struct("v", 64, ("f", t.add(btf_bytes.to("typedef", t.special(name), "lock_t")), 8)),
        )
        each(
            f"a struct in a struct: {name}",
            lambda t, name=name: t.struct("v", 64, ("in", t.struct("in", 40, ("f", t.special(name), 8)), 16)),
        )
        each(
            f"two structs with {name}",
            lambda t, name=name: t.struct(
                "v", 128, ("in", t.array(t.struct("in", 40, ("f", t.special(name), 8)), 2), 16)
            ),
            128,
        )
        each(
            f"{name} in a union",
            lambda t, name=name: t.struct("v", 64, ("f", t.special(name), 0), ("x", t.int, 0), kind="union"),
        )
        each(f"{name} is the value", lambda t, name=name: t.special(name), full)
        each(f"an array of {name} is the value", lambda t, name=name: t.array(t.special(name), 2), 2 * full)
        each(
            f"{name} and a lock",
            lambda t, name=name: t.struct("v", 64, ("l", t.special("bpf_spin_lock"), 0), ("f", t.special(name), 8)),
        )
        types = Types()
        var = types.add(btf_bytes.of("var", "global", types.special(name), 1))
        section = types.add(btf_bytes.section(64, (var, 8, full)))
        fd = types.load(s, f"a section with a {name}")
        for flags in (0, MMAPABLE):
            freeze(s, create(s, "a section", ARRAY, (4, 64), (fd, section), key_type=0, flags=flags))
        s.close()


def pointers_in_values(s):
    for tag in TAGS:
        for target in ("task_struct", "cgroup", "sk_buff", "bpf_cpumask", "my_own_struct", "int", "void", "empty"):
            types = Types()
            if target in ("int", "void"):
                to = types.int if target == "int" else 0
            else:
                to = types.struct(
                    target, 0 if target == "empty" else 8, *([] if target == "empty" else [("x", types.int, 0)])
                )
            value = types.struct("value", 64, ("plain", types.int, 0), ("p", types.pointer(to, tag), 8))
            fd = types.load(s, f"{tag} to {target}")
            for kind in (ARRAY, HASH, PERCPU_ARRAY, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH):
                freeze(s, create(s, f"{tag} to {target}", kind, (4, 64), (fd, value)))
            s.close()
    for tags in (("kptr", "kptr"), ("kptr", "other"), ("other", "kptr"), ()):
        for elements in (1, 2, 11, 12):
            types = Types()
            to = types.struct("my_own_struct", 8, ("x", types.int, 0))
            value = types.struct("value", 128, ("p", types.array(types.pointer(to, *tags), elements), 8))
            fd = types.load(s, f"{elements} pointers with {tags}")
            freeze(s, create(s, "pointers", ARRAY, (4, 128), (fd, value)))
            s.close()
    for modifier in ("volatile", "const", "typedef"):
        types = Types()
        to = types.struct("my_own_struct", 8, ("x", types.int, 0))
        name = "alias" if modifier == "typedef" else ""
        pointer = types.add(btf_bytes.to(modifier, types.pointer(to, "kptr"), name))
        value = types.struct("value", 64, ("p", pointer, 8))
        fd = types.load(s, f"a kptr behind {modifier}")
        freeze(s, create(s, "a kptr", ARRAY, (4, 64), (fd, value)))
        s.close()


def lists_and_trees(s):
    """The tag of a list or tree, what it names, the lock beside it, who owns whom."""
    for head, node in (("bpf_list_head", "bpf_list_node"), ("bpf_rb_root", "bpf_rb_node")):
        for tag in (
            "contains:item:node",
            "contains:item",
            "contains:item:",
            "contains:other:node",
            "contains:item:data",
            "contains:item:absent",
            "holds:item:node",
            None,
            "twice",
            "elsewhere",
        ):
            for lock in ("bpf_spin_lock", "bpf_res_spin_lock", None):
                types = Types()
                types.struct("item", 64, ("data", types.int, 0), ("node", types.special(node), 8))
                members = [("head", types.special(head), 8)] + ([("lock", types.special(lock), 0)] if lock else [])
                value = types.struct("value", 64, *sorted(members, key=lambda one: one[2]))
                component = 1 if lock else 0
                if tag == "elsewhere":
                    types.decl_tag("contains:item:node", value, 1 - component if lock else 0)
                elif tag:
                    types.decl_tag("contains:item:node" if tag == "twice" else tag, value, component)
                if tag == "twice":
                    types.decl_tag("contains:item:node", value, component)
                fd = types.load(s, f"{head} tag {tag} lock {lock}")
                for kind in (ARRAY, HASH, LRU_HASH, PERCPU_ARRAY):
                    freeze(s, create(s, "a list or tree", kind, (4, 64), (fd, value)))
                s.close()
        for deep in (1, 2, 7, 8, 9, "round"):
            types = Types()
            steps = 2 if deep == "round" else deep
            for step in range(steps):
                members = [
                    ("lock", types.special("bpf_spin_lock"), 0),
                    ("head", types.special(head), 8),
                    ("node", types.special(node), 24),
                ]
                one = types.struct(f"item{step}", 64, *members)
                below = (step + 1) % steps if deep == "round" or step + 1 < steps else None
                if below is None:
                    types.struct("last", 64, ("node", types.special(node), 0))
                types.decl_tag(f"contains:{'last' if below is None else f'item{below}'}:node", one, 1)
            types.load(s, f"{head}, {deep} deep")
            s.close()
    for refcount in (False, True):
        types = Types()
        members = [("l", types.special("bpf_list_node"), 0), ("r", types.special("bpf_rb_node"), 24)]
        types.struct("both", 64, *members, *([("c", types.special("bpf_refcount"), 56)] if refcount else []))
        types.load(s, f"in a list and a tree, refcount {refcount}")


def values_with_fields(s):
    """Copying in and out leaves special fields alone; BPF_F_LOCK where there is a lock, and where there is none.

    Values of whole 8 bytes: behind others, the kernel shows bytes of its own memory in per-CPU copies with fields.
    """
    for name in (
        "bpf_spin_lock",
        "bpf_res_spin_lock",
        "bpf_timer",
        "bpf_wq",
        "bpf_task_work",
        "bpf_refcount",
        "kptr",
        None,
    ):
        for kind in (ARRAY, HASH, LRU_HASH, PERCPU_ARRAY, PERCPU_HASH, LRU_PERCPU_HASH):
            for flags in (0, NO_PREALLOC):
                flags |= 0 if kind in (ARRAY, PERCPU_ARRAY) else ZERO_SEED  # noqa: PLW2901 the order of keys is compared
                types = Types()
                if name == "kptr":
                    to = types.struct("my_own_struct", 8, ("x", types.int, 0))
                    value = types.struct("value", 40, ("p", types.pointer(to, "kptr_untrusted"), 8))
                elif name:
                    value = one_value(types, name, size=40)
                else:
                    value = types.struct("value", 40, ("plain", types.int, 0))
                fd = create(s, f"with {name}", kind, (4, 40), (types.load(s, str(name)), value), flags=flags)
                room = value_room(kind, 40)
                rng = random.Random(5)
                for number in range(8):
                    key = struct.pack("<I", number % 3)
                    s.update(
                        fd,
                        key,
                        bytes(rng.randrange(1, 256) for _ in range(room)),
                        rng.choice((0, 0, LOCK, LOCK | 1, LOCK | 2, 1)),
                    )
                    s.lookup(fd, key, room, rng.choice((0, LOCK)))
                    if number % 3 == 2 and kind not in (ARRAY, PERCPU_ARRAY):
                        s.take(fd, key, room, rng.choice((0, LOCK)))
                for cmd in (24, 25, 26, 27):
                    for elem_flags in (0, LOCK):
                        s.batch(cmd, fd, 3, (4, room, 4), keys=bytes(12), elem_flags=elem_flags)
                s.close()


def fields_in_inner_maps(s):
    """Inner maps must have the special fields of the template."""

    def made(name, at=8):
        types = Types()
        value = one_value(types, name, at) if name else types.struct("value", 64, ("plain", types.int, 0))
        return create(s, f"with {name}", ARRAY, (4, 64), (types.load(s, str(name)), value))

    inner = [made(None), made("bpf_spin_lock"), made("bpf_spin_lock"), made("bpf_spin_lock", 12), made("bpf_timer")]
    inner.append(s.map_create(ARRAY, 4, 64, 4))
    for first, template in enumerate(inner):
        outer = s.map_create(ARRAY_OF_MAPS, 4, 4, 8, inner=template)
        del s.transcript[-1]  # it names a descriptor's number
        for second, other in enumerate(inner):
            key, value = Buffer(bytes(4)), Buffer(struct.pack("<I", other & 0xFFFFFFFF))
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQQ", attr, 0, outer & 0xFFFFFFFF, 0, key.address, value.address)
            s.call(f"inner map {second} where {first} is the template", wire.MAP_UPDATE_ELEM, attr)


WRITTEN = (
    programs_that_name_maps_with_fields,
    which_maps_hold_which_fields,
    fields_that_are_not_quite,
    pointers_in_values,
    lists_and_trees,
    values_with_fields,
    fields_in_inner_maps,
)
