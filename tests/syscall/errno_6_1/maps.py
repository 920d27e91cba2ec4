"""The calls that run into the checks of maps.tsv."""

import struct

from .world import EMPTY_STRUCT, MMAPABLE, NOWHERE, RDONLY_PROG, WIDE_INT, ZERO_SEED

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
}
