"""The calls that run into the checks of maps.tsv."""

import struct

from btf_bytes import Types

from .world import (
    EMPTY_STRUCT,
    MMAPABLE,
    NOWHERE,
    RDONLY_PROG,
    RETURN_2,
    WIDE_INT,
    ZERO_SEED,
    bound,
    returns,
    u32,
    with_field,
)

NOEXIST, EXIST, BUILD_ID = 1, 2, 32
SKB_PARSER, SKB_VERDICT, VERDICT = "sk_skb_stream_parser", "sk_skb_stream_verdict", "sk_skb_verdict"


def points_into(w, fd, offset):
    """A program with the address of a byte of the map's value."""
    return w.prog(insns=struct.pack("<BBhiIi", 0x18, 0x21, 0, fd, 0, offset) + RETURN_2)


def odd_key(w, more):
    """An array whose key is of a type that is no plain u32."""
    types = Types()
    key = more(types)
    return w.map(value_size=4, btf_fd=w.btf(types.blob), btf_key_type_id=key, btf_value_type_id=1)


def put(w, fd, value, flags=0, at=0):
    """An update with numbers for key and value."""
    return w.update(fd, u32(at), value if isinstance(value, bytes) else u32(value, 0), flags)


def twice(w, fd, value, flags):
    return [put(w, fd, value), put(w, fd, value, flags)]


def xsk(w):
    return w.task.socket(44, 3)


def redirected(w, *attach_types):
    """A sockmap with a program of each of these kinds attached."""
    fd = w.create("sockmap", 4, 4)
    for at in attach_types:
        w.attach(fd, w.prog("sk_skb", returns(1)), at)
    return fd


CASES = {
    # ---- MAP_CREATE ----
    "array_map_alloc_check:63": lambda w: w.create("array", 5),
    "array_map_alloc_check:67": lambda w: w.create("percpu_array", map_flags=MMAPABLE),
    "array_map_alloc_check:71": lambda w: w.create("array", map_flags=1 << 11),
    "array_map_alloc_check:75": lambda w: w.create("array", value_size=1 << 31),
    "array_map_alloc_check:78": lambda w: w.create("percpu_array", value_size=32769),
    "array_map_check_btf:511": lambda w: w.map(value_size=4, btf_fd=w.btf(), btf_value_type_id=1),
    "array_map_check_btf:514": lambda w: w.map(value_size=4, max_entries=1, btf_fd=w.btf(), btf_value_type_id=1),
    "fd_array_map_alloc_check:785": lambda w: w.create("prog_array", 4, 8),
    "fd_array_map_alloc_check:788": lambda w: w.map("prog_array", map_flags=RDONLY_PROG),
    "htab_map_alloc_check:424": lambda w: w.nobody().map("lru_hash"),
    "queue_stack_map_alloc_check:50": lambda w: w.nobody().map("queue"),
    "trie_alloc:567": lambda w: w.nobody().map("lpm_trie"),
    "bloom_map_alloc:115": lambda w: w.nobody().map("bloom_filter"),
    "htab_map_alloc_check:428": lambda w: w.become("CAP_BPF").map("hash", map_flags=ZERO_SEED),
    "htab_map_alloc_check:432": lambda w: w.map("hash", map_flags=MMAPABLE),
    "htab_map_alloc_check:435": lambda w: w.map("hash", map_flags=2),
    "htab_map_alloc_check:438": lambda w: w.map("lru_hash", map_flags=1),
    "htab_map_alloc_check:441": lambda w: w.map("percpu_hash", map_flags=4),
    "htab_map_alloc_check:448": lambda w: w.create("hash", 0),
    "htab_map_alloc_check:457": lambda w: w.create("hash", 4, 1 << 22),
    "htab_map_alloc_check:460": lambda w: w.create("percpu_hash", 4, 32769),
    "fd_htab_map_alloc_check:2448": lambda w: w.create("hash_of_maps", 4, 8, inner_map_fd=w.map()),
    "queue_stack_map_alloc_check:57": lambda w: w.create("queue", 4, 8),
    "queue_stack_map_alloc_check:63": lambda w: w.create("queue", 0, (1 << 22) + 1),
    "trie_alloc:578": lambda w: w.create("lpm_trie", 8),
    "trie_check_btf:738": lambda w: w.create(
        "lpm_trie", 8, 8, map_flags=1, btf_fd=w.btf(WIDE_INT), btf_key_type_id=1, btf_value_type_id=1
    ),
    "ringbuf_map_alloc:191": lambda w: w.map("ringbuf", map_flags=1),
    "ringbuf_map_alloc:196": lambda w: w.create("ringbuf", 0, 0, 4095),
    "bloom_map_alloc_check:102": lambda w: w.create("bloom_filter", 0, (1 << 22) + 1),
    "bloom_map_alloc:125": lambda w: w.create("bloom_filter", 4, 8),
    "bloom_map_check_btf:204": lambda w: w.create(
        "bloom_filter", 0, 4, btf_fd=w.btf(EMPTY_STRUCT), btf_key_type_id=2, btf_value_type_id=1
    ),
    "bpf_map_meta_alloc:24": lambda w: w.map(
        "array_of_maps", inner_map_fd=w.map("array_of_maps", inner_map_fd=w.map())
    ),
    "bpf_map_meta_alloc:29": lambda w: w.map("array_of_maps", inner_map_fd=w.map("prog_array")),
    # ---- the element commands ----
    "array_map_get_next_key:306": lambda w: w.next(w.map(), struct.pack("<I", 3)),
    "array_map_update_elem:330": lambda w: w.update(w.map(), flags=3),
    "array_map_update_elem:334": lambda w: w.update(w.map(), struct.pack("<I", 4)),
    "array_map_update_elem:338": lambda w: w.update(w.map(), flags=1),
    "array_map_delete_elem:402": lambda w: w.delete(w.map()),
    "bpf_percpu_array_copy:275": lambda w: w.lookup(w.map("percpu_array"), struct.pack("<I", 4)),
    "bpf_percpu_array_update:371": lambda w: w.update(w.map("percpu_array"), flags=3),
    "bpf_percpu_array_update:375": lambda w: w.update(w.map("percpu_array"), struct.pack("<I", 4)),
    "bpf_percpu_array_update:379": lambda w: w.update(w.map("percpu_array"), flags=1),
    "bpf_fd_array_map_update_elem:838": lambda w: w.update(
        w.map("prog_array"), value=struct.pack("<I", w.prog()), flags=1
    ),
    "bpf_fd_array_map_update_elem:841": lambda w: w.update(
        w.map("prog_array"), struct.pack("<I", 4), struct.pack("<I", w.prog())
    ),
    "fd_array_map_delete_elem:869": lambda w: w.delete(w.map("prog_array"), struct.pack("<I", 4)),
    "fd_array_map_delete_elem:884": lambda w: w.delete(w.map("prog_array")),
    "prog_fd_array_get_ptr:915": lambda w: [
        w.attached(w.prog("ext", **fields)) and w.update(w.map("prog_array"), value=struct.pack("<I", fd))
        for fd, fields in [w.target()]
    ],
    "prog_fd_array_get_ptr:900": lambda w: [
        w.update(fd, struct.pack("<I", n), struct.pack("<I", w.prog(kind)))
        for fd in [w.map("prog_array")]
        for n, kind in enumerate(("xdp", "socket_filter"))
    ],
    "htab_map_get_next_key:871": lambda w: w.next(w.map("hash"), None),
    "alloc_htab_elem:1005": lambda w: w.update(w.filled(), struct.pack("<I", 9)),
    "alloc_htab_elem:1016": lambda w: w.update(w.filled(map_flags=1), struct.pack("<I", 9)),
    "check_flags:1066": lambda w: w.update(w.filled(), flags=1),
    "check_flags:1070": lambda w: w.update(w.map("hash"), flags=2),
    "htab_map_update_elem:1090": lambda w: w.update(w.map("hash"), flags=3),
    "htab_lru_map_update_elem:1206": lambda w: w.update(w.map("lru_hash"), flags=3),
    "__htab_percpu_map_update_elem:1274": lambda w: w.update(w.map("percpu_hash"), flags=3),
    "__htab_lru_percpu_map_update_elem:1328": lambda w: w.update(w.map("lru_percpu_hash"), flags=3),
    "bpf_percpu_hash_copy:2344": lambda w: w.lookup(w.map("percpu_hash")),
    "__queue_map_get:116": lambda w: w.take(w.map("queue"), None),
    "__stack_map_get:153": lambda w: w.take(w.map("stack"), None),
    "queue_stack_map_push_elem:212": lambda w: w.update(w.map("queue"), None, flags=1),
    "queue_stack_map_push_elem:223": lambda w: w.update(w.filled("queue"), None),
    "queue_stack_map_delete_elem:258": lambda w: w.delete(w.map("queue"), None),
    "queue_stack_map_get_next_key:265": lambda w: w.next(w.map("queue"), None),
    "trie_update_elem:330": lambda w: w.update(w.map("lpm_trie"), struct.pack("<II", 8, 1), flags=3),
    "trie_update_elem:333": lambda w: w.update(w.map("lpm_trie"), struct.pack("<II", 33, 1)),
    "trie_update_elem:386": lambda w: [
        w.update(fd, struct.pack("<II", 8, 1), flags=flags) for fd in [w.map("lpm_trie")] for flags in (0, 1)
    ],
    "trie_check_add_elem:308": lambda w: w.update(w.map("lpm_trie"), struct.pack("<II", 8, 1), flags=2),
    "trie_check_add_elem:310": lambda w: [
        w.update(fd, struct.pack("<II", 32, n)) for fd in [w.map("lpm_trie")] for n in range(5)
    ],
    "trie_delete_elem:464": lambda w: w.delete(w.map("lpm_trie"), struct.pack("<II", 33, 1)),
    "trie_delete_elem:493": lambda w: w.delete(w.map("lpm_trie"), struct.pack("<II", 8, 1)),
    "trie_get_next_key:658": lambda w: w.next(w.map("lpm_trie"), None),
    "ringbuf_map_lookup_elem:246": lambda w: w.lookup(w.map("ringbuf"), None),
    "ringbuf_map_update_elem:252": lambda w: w.update(w.map("ringbuf"), None),
    "ringbuf_map_delete_elem:257": lambda w: w.delete(w.map("ringbuf"), None),
    "ringbuf_map_get_next_key:263": lambda w: w.next(w.map("ringbuf"), None),
    "bloom_map_peek_elem:53": lambda w: w.lookup(w.map("bloom_filter"), None, bytearray(b"\1" * 8)),
    "bloom_map_push_elem:66": lambda w: w.update(w.map("bloom_filter"), None, flags=1),
    "bloom_map_delete_elem:87": lambda w: w.delete(w.map("bloom_filter"), None),
    "bloom_map_get_next_key:92": lambda w: w.next(w.map("bloom_filter"), None),
    # ---- batches ----
    "__htab_map_lookup_and_delete_batch:1707": lambda w: w.batch("LOOKUP", w.map("hash"), elem_flags=1),
    "__htab_map_lookup_and_delete_batch:1711": lambda w: w.batch("LOOKUP", w.map("hash"), flags=1),
    "__htab_map_lookup_and_delete_batch:1722": lambda w: w.batch("LOOKUP", w.map("hash"), in_batch=NOWHERE),
    "__htab_map_lookup_and_delete_batch:1725": lambda w: w.batch(
        "LOOKUP", w.map("hash"), in_batch=struct.pack("<I", 99)
    ),
    "__htab_map_lookup_and_delete_batch:1893": lambda w: w.batch("LOOKUP", w.filled(), keys=NOWHERE, count=64),
    "__htab_map_lookup_and_delete_batch:1901": lambda w: w.batch("LOOKUP", w.filled(), count=64),
    "__htab_map_lookup_and_delete_batch:1718": lambda w: w.frozen("MAP_LOOKUP_BATCH", map_fd=w.filled(), count=1),
    # ---- the rest of arrays, hashes, queues and rings ----
    "array_map_alloc:112": lambda w: w.nobody().map(max_entries=0x80000001),
    "array_map_direct_value_addr:183": lambda w: points_into(w, w.map(), 0),
    "array_map_direct_value_addr:185": lambda w: points_into(w, w.map(max_entries=1), 8),
    "array_map_check_btf:520": lambda w: odd_key(w, lambda types: types.struct("key", 4)),
    "array_map_check_btf:527": lambda w: odd_key(w, lambda types: types.integer(4, bits=16)),
    "array_map_mmap:538": lambda w: w.task.mmap(w.map(), 4096),
    "array_map_mmap:542": lambda w: w.task.mmap(w.map(map_flags=MMAPABLE), 8192),
    "bpf_fd_array_map_lookup_elem:816": lambda w: w.lookup(w.create("perf_event_array", 4, 4)),
    "htab_map_alloc:506": lambda w: w.map("hash", max_entries=0x80000001),
    "htab_map_alloc:519": lambda w: w.map("hash", max_entries=1 << 28),
    "ringbuf_map_mmap_kern:275": lambda w: w.task.mmap(w.map("ringbuf"), 8192),
    "ringbuf_map_mmap_user:296": lambda w: w.task.mmap(w.map("user_ringbuf"), 4096),
    "bpf_map_meta_alloc:34": lambda w: w.map("array_of_maps", inner_map_fd=with_field(w, "bpf_spin_lock")),
    # ---- devmap, cpumap, xskmap ----
    "dev_map_init_map:123": lambda w: w.create("devmap", 4, 5),
    "dev_map_init_map:138": lambda w: w.create("devmap_hash", 4, 4, 0x80000001),
    "dev_map_alloc:165": lambda w: w.become("CAP_BPF").create("devmap", 4, 4),
    "dev_map_get_next_key:259": lambda w: w.next(w.create("devmap", 4, 4), u32(3)),
    "dev_map_hash_get_next_key:324": lambda w: w.next(w.create("devmap_hash", 4, 4), None),
    "dev_map_delete_elem:840": lambda w: w.delete(w.create("devmap", 4, 4), u32(4)),
    "__dev_map_alloc_node:916": lambda w: put(w, w.create("devmap", 4, 4), 77),
    "__dev_map_update_elem:928": lambda w: put(w, w.create("devmap", 4, 4), 1, 3),
    "__dev_map_update_elem:930": lambda w: put(w, w.create("devmap", 4, 4), 1, at=4),
    "__dev_map_update_elem:932": lambda w: put(w, w.create("devmap", 4, 4), 1, NOEXIST),
    "__dev_map_update_elem:941": lambda w: put(w, w.create("devmap", 4, 8), u32(0, 3)),
    "__dev_map_hash_update_elem:980": lambda w: put(w, w.create("devmap_hash", 4, 4), 0),
    "__dev_map_hash_update_elem:986": lambda w: twice(w, w.create("devmap_hash", 4, 4), 1, NOEXIST),
    "__dev_map_hash_update_elem:1000": lambda w: [
        put(w, fd, 1, at=at) for fd in [w.create("devmap_hash", 4, 4, 1)] for at in (0, 1)
    ],
    "cpu_map_alloc:93": lambda w: w.nobody().create("cpumap", 4, 4),
    "cpu_map_alloc:100": lambda w: w.create("cpumap", 4, 5),
    "cpu_map_alloc:110": lambda w: w.create("cpumap", 4, 4, 1 << 20),
    "cpu_map_delete_elem:568": lambda w: w.delete(w.create("cpumap", 4, 4), u32(4)),
    "cpu_map_update_elem:587": lambda w: put(w, w.create("cpumap", 4, 4), 1, 3),
    "cpu_map_update_elem:589": lambda w: put(w, w.create("cpumap", 4, 4), 1, at=4),
    "cpu_map_update_elem:591": lambda w: put(w, w.create("cpumap", 4, 4), 1, NOEXIST),
    "cpu_map_update_elem:593": lambda w: put(w, w.create("cpumap", 4, 4), 16385),
    "cpu_map_update_elem:597": lambda w: put(w, w.create("cpumap", 4, 4), 1, at=3),
    "cpu_map_get_next_key:684": lambda w: w.next(w.create("cpumap", 4, 4), u32(3)),
    "xsk_map_alloc:68": lambda w: w.become("CAP_BPF").create("xskmap", 4, 4),
    "xsk_map_alloc:73": lambda w: w.create("xskmap", 4, 8),
    "xsk_map_get_next_key:108": lambda w: w.next(w.create("xskmap", 4, 4), u32(3)),
    "xsk_map_lookup_elem_sys_only:150": lambda w: w.lookup(w.create("xskmap", 4, 4)),
    "xsk_map_update_elem:165": lambda w: put(w, w.create("xskmap", 4, 4), 0, 3),
    "xsk_map_update_elem:167": lambda w: put(w, w.create("xskmap", 4, 4), 0, at=4),
    "xsk_map_update_elem:175": lambda w: put(w, w.create("xskmap", 4, 4), w.task.socket()),
    "xsk_map_update_elem:193": lambda w: [
        put(w, fd, xsk(w), NOEXIST) for fd in [w.create("xskmap", 4, 4)] for _ in range(2)
    ],
    "xsk_map_update_elem:196": lambda w: put(w, w.create("xskmap", 4, 4), xsk(w), EXIST),
    "xsk_map_delete_elem:222": lambda w: w.delete(w.create("xskmap", 4, 4), u32(4)),
    # ---- stack traces ----
    "stack_map_alloc:78": lambda w: w.nobody().map("stack_trace"),
    "stack_map_alloc:81": lambda w: w.map("stack_trace", map_flags=1),
    "stack_map_alloc:86": lambda w: w.create("stack_trace", 4, 4),
    "stack_map_alloc:93": lambda w: w.create("stack_trace", 4, 8, map_flags=BUILD_ID),
    "stack_map_alloc:95": lambda w: w.create("stack_trace", 4, 8 * 128),
    "stack_map_alloc:101": lambda w: w.create("stack_trace", 4, 8, 0x80000001),
    "bpf_stackmap_copy:609": lambda w: w.lookup(w.map("stack_trace"), u32(4)),
    "bpf_stackmap_copy:613": lambda w: w.lookup(w.map("stack_trace")),
    "stack_map_get_next_key:648": lambda w: w.next(w.map("stack_trace"), None),
    "stack_map_update_elem:657": lambda w: w.update(w.map("stack_trace")),
    "stack_map_delete_elem:668": lambda w: w.delete(w.map("stack_trace"), u32(4)),
    "stack_map_delete_elem:675": lambda w: w.delete(w.map("stack_trace")),
    # ---- reuseport arrays ----
    "reuseport_array_alloc_check:45": lambda w: w.create("reuseport_sockarray", 4, 5),
    "reuseport_array_delete_elem:70": lambda w: w.delete(w.map("reuseport_sockarray"), u32(4)),
    "reuseport_array_delete_elem:73": lambda w: w.delete(w.map("reuseport_sockarray")),
    "reuseport_array_alloc:155": lambda w: w.nobody().map("reuseport_sockarray"),
    "bpf_fd_reuseport_array_lookup_elem:175": lambda w: w.lookup(w.create("reuseport_sockarray", 4, 4)),
    "reuseport_array_update_check:198": lambda w: [
        put(w, fd, bound(w, port), NOEXIST) for fd in [w.map("reuseport_sockarray")] for port in (1, 2)
    ],
    "reuseport_array_update_check:201": lambda w: put(w, w.map("reuseport_sockarray"), bound(w, 1), EXIST),
    "reuseport_array_update_check:204": lambda w: put(w, w.map("reuseport_sockarray"), w.task.socket("inet", 3, 1)),
    "reuseport_array_update_check:210": lambda w: put(w, w.map("reuseport_sockarray"), w.task.socket("inet", 3, 17)),
    "reuseport_array_update_check:221": lambda w: put(w, w.map("reuseport_sockarray"), w.task.socket()),
    "reuseport_array_update_check:225": lambda w: [
        put(w, w.map("reuseport_sockarray"), sock) for sock in [bound(w, 1)] for _ in range(2)
    ],
    "bpf_fd_reuseport_array_update_elem:247": lambda w: put(w, w.map("reuseport_sockarray"), 0, 3),
    "bpf_fd_reuseport_array_update_elem:250": lambda w: put(w, w.map("reuseport_sockarray"), 0, at=4),
    "bpf_fd_reuseport_array_update_elem:256": lambda w: put(w, w.map("reuseport_sockarray"), u32(0, 1)),
    "reuseport_array_get_next_key:332": lambda w: w.next(w.map("reuseport_sockarray"), u32(3)),
    # ---- sockmap and sockhash ----
    "sock_map_alloc:36": lambda w: w.become("CAP_BPF").create("sockmap", 4, 4),
    "sock_map_alloc:43": lambda w: w.create("sockmap", 4, 5),
    "sock_map_get_from_fd:71": lambda w: w.attach(redirected(w), w.prog("sk_skb", returns(1)), SKB_VERDICT, 1),
    "sock_map_prog_detach:105": lambda w: w.detach(redirected(w), w.prog(), SKB_VERDICT),
    "sock_map_link:275": lambda w: [
        put(w, redirected(w, SKB_VERDICT), sock) for sock in [w.connected()] for _ in range(2)
    ],
    "sock_map_lookup_sys:402": lambda w: w.lookup(redirected(w)),
    "sock_map_lookup_sys:406": lambda w: w.lookup(w.map("sockmap")),
    "sock_map_delete_elem:450": lambda w: w.delete(redirected(w), u32(4)),
    "sock_map_get_next_key:463": lambda w: w.next(redirected(w), u32(3)),
    "sock_map_update_common:482": lambda w: put(w, redirected(w), w.connected(), 3),
    "sock_map_update_common:484": lambda w: put(w, redirected(w), w.connected(), at=4),
    "sock_map_update_common:500": lambda w: twice(w, redirected(w), w.connected(), NOEXIST),
    "sock_map_update_common:503": lambda w: put(w, redirected(w), w.connected(), EXIST),
    "sock_map_update_elem_sys:569": lambda w: put(w, w.map("sockmap"), u32(0, 1)),
    "sock_map_update_elem_sys:580": lambda w: put(w, redirected(w), w.task.socket(16, 3)),
    "sock_hash_alloc_elem:964": lambda w: [
        put(w, fd, w.connected(port), at=port) for fd in [w.create("sockhash", 4, 4, 1)] for port in (1, 2)
    ],
    "sock_hash_update_common:994": lambda w: put(w, w.map("sockhash"), w.connected(), 3),
    "sock_hash_update_common:1013": lambda w: twice(w, w.map("sockhash"), w.connected(), NOEXIST),
    "sock_hash_update_common:1016": lambda w: put(w, w.map("sockhash"), w.connected(), EXIST),
    "sock_hash_get_next_key:1083": lambda w: w.next(w.map("sockhash"), None),
    "sock_hash_alloc:1092": lambda w: w.become("CAP_BPF").map("sockhash"),
    "sock_hash_alloc:1098": lambda w: w.create("sockhash", 0, 4),
    "sock_hash_alloc:1100": lambda w: w.create("sockhash", 513, 4),
    "sock_hash_alloc:1113": lambda w: w.create("sockhash", 4, 4, 1 << 28),
    "sock_hash_lookup_sys:1194": lambda w: w.lookup(w.create("sockhash", 4, 4)),
    "sock_hash_lookup_sys:1198": lambda w: w.lookup(w.map("sockhash")),
    "sock_map_prog_lookup:1458": lambda w: w.attach(w.map(), w.prog("sk_skb", returns(1)), SKB_VERDICT),
    "sock_map_prog_lookup:1471": lambda w: redirected(w, VERDICT, SKB_VERDICT),
    "sock_map_prog_lookup:1476": lambda w: redirected(w, SKB_VERDICT, VERDICT),
    "sock_map_iter_attach_target:1667": lambda w: w.shown("sockmap", 0),
    "sock_map_iter_attach_target:1675": lambda w: w.shown("sockmap", w.map()),
    "sock_map_iter_attach_target:1678": lambda w: w.shown("sockmap", w.map("sockhash"), at=16, off=4),
    "sock_map_bpf_prog_query:1516": lambda w: w.query(redirected(w), SKB_VERDICT, query_flags=1),
}
