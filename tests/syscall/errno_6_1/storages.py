"""The calls that run into the checks of storages.tsv."""

from btf_bytes import Types

from .world import INT, NO_FD, holds, returns, u32

NO_PREALLOC, NOEXIST, EXIST = 1, 1, 2


def storage(w, kind="task_storage", value_size=4, **more):
    """A local storage of ints."""
    fields = {"map_flags": NO_PREALLOC, "btf_key_type_id": 1, "btf_value_type_id": 1} | more
    return w.create(kind, 4, value_size, 0, **fields if "btf_fd" in fields else fields | {"btf_fd": w.btf()})


def odd_key(w, more, kind="task_storage", size=4, **sizes):
    """A map whose key is of a type that does not fit."""
    types = Types()
    key = more(types)
    fields = {"map_flags": NO_PREALLOC} if kind == "task_storage" else {}
    types = {"btf_fd": w.btf(types.blob), "btf_key_type_id": key, "btf_value_type_id": 1}
    return w.create(kind, size, 4, 0, **fields | types)


def this(w):
    return u32(w.task.pidfd_open(w.task.pid))


def late(w):
    """A descriptor of a task that is gone."""
    child = w.task.fork()
    pidfd = w.task.pidfd_open(child.pid)
    child.exit()
    return u32(pidfd)


def cgroup_storage(w, kind="cgroup_storage", key_size=8, **more):
    return w.create(kind, key_size, 4, 0, **more)


def halves(first, second):
    """A key's type for isolated storages: a struct of two members, by their sizes."""

    def make(types):
        members = [("id", types.integer(first), 0), ("type", types.integer(second), 8)]
        return types.struct("key", 16, *members)

    return make


PER_CPU = "percpu_cgroup_storage"
NOBODY = bytes(16)

CASES = {
    # ---- what all local storages share ----
    "check_flags:293": lambda w: [w.update(fd, this(w), flags=flags) for fd in [storage(w)] for flags in (0, NOEXIST)],
    "check_flags:297": lambda w: w.update(storage(w), this(w), flags=EXIST),
    "bpf_local_storage_update:386": lambda w: w.update(storage(w), this(w), flags=3),
    "bpf_local_storage_map_alloc_check:525": lambda w: storage(w, map_flags=0),
    "bpf_local_storage_map_alloc_check:528": lambda w: [btf := w.btf(INT), storage(w.nobody(), btf_fd=btf)],
    "bpf_local_storage_map_alloc_check:531": lambda w: storage(w, value_size=1 << 20),
    "bpf_local_storage_map_check_btf:544": lambda w: odd_key(w, lambda types: types.struct("key", 4)),
    "bpf_local_storage_map_check_btf:548": lambda w: odd_key(w, lambda types: types.integer(4, bits=16)),
    # ---- of sockets, inodes and tasks ----
    "bpf_sk_storage_del:41": lambda w: w.delete(storage(w, "sk_storage"), u32(w.task.socket())),
    "notsupp_get_next_key:83": lambda w: w.next(storage(w, "sk_storage"), None),
    "bpf_fd_inode_storage_lookup_elem:93": lambda w: w.lookup(storage(w, "inode_storage"), u32(NO_FD)),
    "bpf_fd_inode_storage_update_elem:110": lambda w: w.update(storage(w, "inode_storage"), u32(NO_FD)),
    "inode_storage_delete:129": lambda w: w.delete(storage(w, "inode_storage"), u32(w.map())),
    "bpf_fd_inode_storage_delete_elem:144": lambda w: w.delete(storage(w, "inode_storage"), u32(NO_FD)),
    "notsupp_get_next_key:203": lambda w: w.next(storage(w, "inode_storage"), None),
    "bpf_pid_task_storage_lookup_elem:116": lambda w: w.lookup(storage(w), late(w)),
    "bpf_pid_task_storage_update_elem:150": lambda w: w.update(storage(w), late(w)),
    "task_storage_delete:172": lambda w: w.delete(storage(w), this(w)),
    "bpf_pid_task_storage_delete_elem:197": lambda w: w.delete(storage(w), late(w)),
    "notsupp_get_next_key:265": lambda w: w.next(storage(w), None),
    # ---- of cgroups, at their programs ----
    "cgroup_storage_update_elem:151": lambda w: w.update(cgroup_storage(w), NOBODY, flags=NOEXIST),
    "cgroup_storage_update_elem:160": lambda w: w.update(cgroup_storage(w), NOBODY),
    "bpf_percpu_cgroup_storage_copy:194": lambda w: w.lookup(cgroup_storage(w, PER_CPU), NOBODY),
    "bpf_percpu_cgroup_storage_update:220": lambda w: w.update(cgroup_storage(w, PER_CPU), NOBODY, flags=NOEXIST),
    "bpf_percpu_cgroup_storage_update:226": lambda w: w.update(cgroup_storage(w, PER_CPU), NOBODY),
    "cgroup_storage_get_next_key:282": lambda w: w.next(cgroup_storage(w), None),
    "cgroup_storage_map_alloc:300": lambda w: cgroup_storage(w, key_size=4),
    "cgroup_storage_map_alloc:303": lambda w: w.create("cgroup_storage", 8, 0, 0),
    "cgroup_storage_map_alloc:306": lambda w: w.create("cgroup_storage", 8, 1 << 23, 0),
    "cgroup_storage_map_alloc:310": lambda w: cgroup_storage(w, map_flags=1),
    "cgroup_storage_map_alloc:314": lambda w: w.create("cgroup_storage", 8, 4, 1),
    "cgroup_storage_delete_elem:353": lambda w: w.delete(cgroup_storage(w), NOBODY),
    "cgroup_storage_check_btf:378": lambda w: odd_key(w, lambda types: types.integer(16), "cgroup_storage", 16),
    "cgroup_storage_check_btf:386": lambda w: odd_key(w, halves(4, 4), "cgroup_storage", 16),
    "cgroup_storage_check_btf:395": lambda w: odd_key(w, halves(8, 8), "cgroup_storage", 16),
    "cgroup_storage_check_btf:404": lambda w: odd_key(w, lambda types: types.struct("key", 8), "cgroup_storage", 8),
    "cgroup_storage_check_btf:408": lambda w: odd_key(w, lambda types: types.integer(8, bits=32), "cgroup_storage", 8),
    "bpf_cgroup_storage_assign:469": lambda w: w.prog(
        "cgroup_skb", holds(cgroup_storage(w))[:16] + holds(cgroup_storage(w))[:16] + returns(1)
    ),
    # ---- iterators over the values of sockets ----
    "bpf_iter_attach_map:871": lambda w: w.shown("bpf_sk_storage_map", 0),
    "bpf_iter_attach_map:878": lambda w: w.shown("bpf_sk_storage_map", storage(w)),
    "bpf_iter_attach_map:881": lambda w: w.shown("bpf_sk_storage_map", storage(w, "sk_storage"), at=24, off=4),
}
