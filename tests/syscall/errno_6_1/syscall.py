"""The calls that run into the checks of syscall.tsv."""

import mmap
import struct

from btf_bytes import Types, proto, to

from .world import (
    LOCK,
    MMAPABLE,
    NO_FD,
    NOWHERE,
    RDONLY,
    RDONLY_PROG,
    WRONLY,
    Bent,
    bpf,
    brink,
    holds,
    prog_info,
    read_only,
    returns,
    tail,
    wild,
    with_field,
)

FIRST_FUNCTION = 0xFFFFFFFF81000000


def vmlinux_btf(w):
    return w.bpf("BTF_GET_FD_BY_ID", btf_id=1)


def described(w):
    """A program with a function's and a line's info."""
    types = Types()
    types.add(to("func", types.add(proto(types.int)), "main", vlen=1))
    line = struct.pack("<IIII", 0, 1, 1, 1 << 10 | 1)
    info = {"func_info": struct.pack("<II", 0, 3), "func_info_rec_size": 8, "func_info_cnt": 1}
    info |= {"line_info": line, "line_info_rec_size": 16, "line_info_cnt": 1}
    return w.prog(prog_btf_fd=w.btf(types.blob), **info)


def asks(w, fd, numbers):
    """The info of a program, with these words of the struct set before the call: {offset: number}."""
    room = bytearray(232)
    for at, number in numbers.items():
        struct.pack_into("<I", room, at, number)
    return w.info(fd, room)


def raw_tp_info(address, length):
    """The info of a raw tracepoint's link, with room for its name there."""
    room = struct.pack("<4IQI36x", 0, 0, 0, 0, address, length)
    return lambda w: w.info(w.raw_tracepoint(), bytearray(room))


CASES = {
    # ---- the door ----
    "bpf_check_uarg_tail_zero:89": lambda w: w.bpf("MAP_CREATE", 4097),
    "bpf_check_uarg_tail_zero:102": lambda w: w.bpf("MAP_CREATE", 200, raw={190: 1}),
    "__sys_bpf:5058": lambda w: w.become().map(),
    "__sys_bpf:5189": lambda w: w.bpf(77),
    "__sys_bpf:5068": lambda w: bpf(Bent(w.task, wild), "MAP_CREATE"),
    # ---- MAP_CREATE ----
    "find_and_alloc_map:120": lambda w: w.create(99),
    "find_and_alloc_map:124": lambda w: w.create(0),
    "map_create:1125": lambda w: w.map(raw={72: 1}),
    "map_create:1130": lambda w: w.map(btf_vmlinux_value_type_id=1),
    "map_create:1132": lambda w: w.map(btf_key_type_id=1),
    "map_create:1137": lambda w: w.map(map_extra=1),
    "map_create:1146": lambda w: w.map(map_flags=4, numa_node=77),
    "bpf_get_file_flag:904": lambda w: w.map(map_flags=RDONLY | WRONLY),
    "bpf_obj_name_cpy:933": lambda w: w.map(map_name="a b"),
    "bpf_obj_name_cpy:939": lambda w: w.map(raw={28 + n: 120 for n in range(16)}),
    "map_check_btf:1041": lambda w: w.map(value_size=4, btf_fd=w.btf(), btf_key_type_id=9, btf_value_type_id=1),
    "map_check_btf:1045": lambda w: w.map("hash", value_size=4, btf_fd=w.btf(), btf_value_type_id=1),
    "map_check_btf:1050": lambda w: w.map(value_size=8, btf_fd=w.btf(), btf_key_type_id=1, btf_value_type_id=1),
    "map_check_no_btf:949": lambda w: w.map(
        "array_of_maps", inner_map_fd=w.map(), btf_fd=w.btf(), btf_key_type_id=1, btf_value_type_id=1
    ),
    "bpf_prog_load:2552": lambda w: w.nobody().prog("xdp"),
    "map_create:1186": lambda w: w.map(value_size=4, btf_fd=vmlinux_btf(w), btf_key_type_id=1, btf_value_type_id=1),
    "map_check_btf:1056": lambda w: with_field(w, "bpf_spin_lock", map_flags=RDONLY_PROG),
    "map_check_btf:1063": lambda w: with_field(w, "bpf_spin_lock", "lru_hash"),
    "map_check_btf:1076": lambda w: with_field(w, "bpf_timer", map_flags=RDONLY_PROG),
    "map_check_btf:1080": lambda w: with_field(w, "bpf_timer", "percpu_hash"),
    "map_check_btf:1086": lambda w: with_field(w, "kptr", before=w.nobody),
    "map_check_btf:1090": lambda w: with_field(w, "kptr", map_flags=RDONLY_PROG),
    "map_check_btf:1097": lambda w: with_field(w, "kptr", "percpu_hash"),
    # ---- the element commands ----
    "__bpf_map_get:1248": lambda w: w.lookup(NO_FD),
    "__bpf_map_get:1251": lambda w: w.lookup(w.prog()),
    "___bpf_copy_key:1349": lambda w: w.update(w.map("queue")),
    "__bpf_copy_key:1338": lambda w: w.lookup(w.map("queue")),
    "map_lookup_elem:1369": lambda w: w.lookup(w.map(), raw={40: 1}),
    "map_lookup_elem:1372": lambda w: w.lookup(w.map(), flags=1),
    "map_lookup_elem:1379": lambda w: w.lookup(w.map(map_flags=WRONLY)),
    "map_lookup_elem:1385": lambda w: w.lookup(w.map(), flags=LOCK),
    "map_lookup_elem:1416": lambda w: w.lookup(w.map(), value=NOWHERE),
    "map_update_elem:1444": lambda w: w.update(w.map(), raw={40: 1}),
    "map_update_elem:1452": lambda w: w.update(w.map(map_flags=RDONLY)),
    "map_update_elem:1458": lambda w: w.update(w.map(), flags=LOCK),
    "map_delete_elem:1498": lambda w: w.delete(w.map(), flags=1),
    "map_delete_elem:1506": lambda w: w.delete(w.map(map_flags=RDONLY)),
    "map_get_next_key:1554": lambda w: w.next(w.map(), flags=1),
    "map_get_next_key:1561": lambda w: w.next(w.map(map_flags=WRONLY)),
    "map_get_next_key:1594": lambda w: w.next(w.map(), following=NOWHERE),
    "map_lookup_and_delete_elem:1836": lambda w: w.take(w.map("hash"), raw={40: 1}),
    "map_lookup_and_delete_elem:1839": lambda w: w.take(w.map("hash"), flags=1),
    "map_lookup_and_delete_elem:1848": lambda w: w.take(w.map("hash", map_flags=RDONLY)),
    "map_lookup_and_delete_elem:1855": lambda w: w.take(w.map("queue"), None, flags=LOCK),
    "map_lookup_and_delete_elem:1861": lambda w: w.take(w.map("hash"), flags=LOCK),
    "map_lookup_and_delete_elem:1899": lambda w: w.take(w.filled(), value=NOWHERE),
    "map_freeze:1924": tail("MAP_FREEZE", 8),
    "map_freeze:1943": lambda w: [w.bpf("MAP_FREEZE", map_fd=fd) for fd in [w.map()] * 2],
    "map_freeze:1947": lambda w: w.map() and w.become("CAP_NET_ADMIN").bpf("MAP_FREEZE", map_fd=3),
    "map_freeze:1934": lambda w: w.bpf("MAP_FREEZE", map_fd=with_field(w, "bpf_timer")),
    "map_freeze:1939": lambda w: [
        fd := w.map(map_flags=MMAPABLE),
        w.task.mmap(fd, 4096),
        w.bpf("MAP_FREEZE", map_fd=fd),
    ],
    # ---- files ----
    "bpf_dummy_read:781": lambda w: w.task.read(w.map()),
    "bpf_map_mmap:823": lambda w: w.task.mmap(w.map("hash"), 4096),
    "bpf_map_mmap:826": lambda w: w.task.mmap(w.map(map_flags=MMAPABLE), 4096, flags=mmap.MAP_PRIVATE),
    "bpf_map_mmap:832": lambda w: [
        fd := w.map(map_flags=MMAPABLE),
        w.bpf("MAP_FREEZE", map_fd=fd),
        w.task.mmap(fd, 4096),
    ],
    "bpf_map_mmap:841": lambda w: w.task.mmap(w.map(map_flags=MMAPABLE | RDONLY_PROG), 4096),
    "bpf_unpriv_handler:5417": lambda w: [w.kernel.sysctl_write("kernel.unprivileged_bpf_disabled", n) for n in (1, 0)],
    # ---- batches ----
    "bpf_map_do_batch:4609": lambda w: w.batch("LOOKUP", w.map(), raw={60: 1}),
    "bpf_map_do_batch:4619": lambda w: w.batch("LOOKUP", w.map(map_flags=WRONLY)),
    "bpf_map_do_batch:4623": lambda w: w.batch("UPDATE", w.map(map_flags=RDONLY)),
    "generic_map_delete_batch:1617": lambda w: w.batch("DELETE", w.map("lpm_trie"), elem_flags=1),
    "generic_map_delete_batch:1621": lambda w: w.batch("DELETE", w.map("lpm_trie"), elem_flags=LOCK),
    "generic_map_update_batch:1677": lambda w: w.batch("UPDATE", w.map(), elem_flags=1),
    "generic_map_update_batch:1681": lambda w: w.batch("UPDATE", w.map(), elem_flags=LOCK),
    "generic_map_lookup_batch:1741": lambda w: w.batch("LOOKUP", w.map(), elem_flags=1),
    "generic_map_lookup_batch:1745": lambda w: w.batch("LOOKUP", w.map(), elem_flags=LOCK),
    "generic_map_lookup_batch:1769": lambda w: w.batch("LOOKUP", w.map(), in_batch=NOWHERE),
    "generic_map_lookup_batch:1792": lambda w: w.batch("LOOKUP", w.map(), keys=NOWHERE),
    "generic_map_lookup_batch:1796": lambda w: w.batch("LOOKUP", w.map(), values=NOWHERE),
    "generic_map_delete_batch:1629": lambda w: w.frozen("MAP_DELETE_BATCH", map_fd=w.map("lpm_trie"), count=1),
    "generic_map_update_batch:1691": lambda w: w.frozen("MAP_UPDATE_BATCH", map_fd=w.map(), count=1),
    "generic_map_lookup_batch:1754": lambda w: w.frozen("MAP_LOOKUP_BATCH", map_fd=w.map(), count=1),
    # ---- PROG_LOAD's object side ----
    "find_prog_type:1974": lambda w: w.prog(99),
    "find_prog_type:1978": lambda w: w.prog(0),
    "bpf_prog_load_check_attach:2369": lambda w: w.prog("tracing", attach_btf_id=0x100000),
    "bpf_prog_load_check_attach:2381": lambda w: w.prog("xdp", attach_btf_id=1),
    "bpf_prog_load_check_attach:2401": lambda w: w.prog("cgroup_sock", expected_attach_type=99),
    "bpf_prog_load_check_attach:2419": lambda w: w.prog("cgroup_sock_addr", expected_attach_type=99),
    "bpf_prog_load_check_attach:2427": lambda w: w.prog("cgroup_skb", expected_attach_type=99),
    "bpf_prog_load_check_attach:2435": lambda w: w.prog("cgroup_sockopt", expected_attach_type=99),
    "bpf_prog_load_check_attach:2440": lambda w: w.prog("sk_lookup", expected_attach_type=1),
    "bpf_prog_load_check_attach:2447": lambda w: w.prog("sk_reuseport", expected_attach_type=1),
    "bpf_prog_load_check_attach:2452": lambda w: w.prog("syscall", expected_attach_type=1),
    "bpf_prog_load:2521": lambda w: w.prog(raw={140: 1}),
    "bpf_prog_load:2529": lambda w: w.prog(prog_flags=1 << 30),
    "bpf_prog_load:2540": lambda w: w.prog(license=NOWHERE),
    "bpf_prog_load:2548": lambda w: w.prog(insn_cnt=0, insns=0),
    "bpf_prog_load:2555": lambda w: w.become("CAP_BPF").prog("xdp"),
    "bpf_prog_load:2557": lambda w: w.become("CAP_BPF").prog("kprobe"),
    "bpf_prog_load:2568": lambda w: w.prog("tracing", attach_prog_fd=NO_FD),
    "bpf_prog_load:2574": lambda w: w.prog("tracing", attach_prog_fd=w.btf()),
    "bpf_prog_load:2595": lambda w: w.prog("sk_lookup", expected_attach_type=1),
    "bpf_prog_load:2627": lambda w: w.prog(insns=NOWHERE, insn_cnt=2),
    "____bpf_prog_get:2237": lambda w: w.run(NO_FD),
    "____bpf_prog_get:2240": lambda w: w.run(w.map()),
    "bpf_prog_load_check_attach:2386": lambda w: w.prog("tracing", attach_prog_fd=vmlinux_btf(w)),
    "bpf_prog_load_check_attach:2390": lambda w: w.prog("xdp", attach_prog_fd=w.prog()),
    "bpf_prog_load:2583": lambda w: w.reboot(config={"DEBUG_INFO_BTF": False}).prog("tracing", attach_btf_id=1),
    # ---- pins ----
    "bpf_obj_pin:2710": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/a", bpf_fd=w.map(), file_flags=1),
    "bpf_obj_get:2719": lambda w: w.bpf("OBJ_GET", pathname="/sys/fs/bpf/a", bpf_fd=3),
    # ---- links ----
    "bpf_link_get_from_fd:2976": lambda w: w.bpf("LINK_DETACH", link_fd=NO_FD),
    "bpf_link_get_from_fd:2979": lambda w: w.bpf("LINK_DETACH", link_fd=w.map()),
    "link_create:4650": tail("LINK_CREATE"),
    "link_create:4681": lambda w: w.bpf("LINK_CREATE", prog_fd=w.prog("xdp"), target_ifindex=2, attach_type=0),
    "link_update:4760": tail("LINK_UPDATE"),
    "link_update:4764": lambda w: w.bpf("LINK_UPDATE", link_fd=w.link(), new_prog_fd=w.prog("xdp"), flags=1),
    "link_update:4784": lambda w: w.bpf("LINK_UPDATE", link_fd=w.link(), new_prog_fd=w.prog("xdp"), old_prog_fd=3),
    "link_detach:4811": tail("LINK_DETACH"),
    "bpf_link_by_id:4837": lambda w: w.bpf("LINK_GET_FD_BY_ID", link_id=0),
    "bpf_link_get_fd_by_id:4885": tail("LINK_GET_FD_BY_ID"),
    "bpf_link_get_fd_by_id:4888": lambda w: w.become("CAP_BPF").bpf("LINK_GET_FD_BY_ID", link_id=1),
    "link_create:4667": lambda w: w.link_to(0, w.prog("tracepoint"), "xdp"),
    "link_create:4674": lambda w: w.link_to(0, w.prog("kprobe"), "xdp"),
    "link_create:4706": lambda w: w.link_to(0, w.tracing(), "trace_fexit"),
    "bpf_perf_link_attach:3343": lambda w: w.link_to(
        w.task.perf_event_open("software", "cpu-clock"), w.prog("perf_event"), "perf_event", flags=1
    ),
    "bpf_prog_attach_check_attach_type:3486": lambda w: w.link_to(
        w.cgroup(), w.prog("cgroup_sock", returns(1)), "cgroup_inet4_post_bind"
    ),
    "bpf_prog_attach_check_attach_type:3492": lambda w: w.become("CAP_BPF").link_to(
        w.cgroup(""), w.prog("cgroup_skb", returns(1)), "cgroup_inet_ingress"
    ),
    "bpf_prog_attach_check_attach_type:3496": lambda w: w.link_to(
        w.cgroup(), w.prog("cgroup_skb", returns(1)), "cgroup_device"
    ),
    "bpf_prog_attach_check_attach_type:3498": lambda w: w.link_to(
        w.cgroup(), w.prog("cgroup_skb", expected_attach_type="cgroup_inet_egress"), "cgroup_inet_ingress"
    ),
    "bpf_prog_attach_check_attach_type:3504": lambda w: w.link_to(
        w.task.perf_event_open("kprobe", "vfs_read"),
        w.prog("kprobe", expected_attach_type="trace_kprobe_multi"),
        "perf_event",
    ),
    "bpf_tracing_prog_attach:3063": lambda w: w.bpf("RAW_TRACEPOINT_OPEN", prog_fd=w.iterator()),
    "bpf_tracing_prog_attach:3075": lambda w: w.attached(w.lsm(at="lsm_cgroup")),
    "bpf_tracing_prog_attach:3149": lambda w: [w.attached(fd) for fd in [w.prog("ext", **w.target()[1])] * 2],
    "bpf_tracing_prog_attach:3154": lambda w: [
        (w.task.close(w.attached(watcher)), w.attached(watcher)) for *_, watcher in [w.watched()]
    ],
    "bpf_tracing_prog_attach:3085": lambda w: w.link_to(w.prog(), w.tracing(), "trace_fentry"),
    "bpf_tracing_prog_attach:3092": lambda w: w.link_to(w.prog(), w.tracing(), "trace_fentry", target_btf_id=1),
    "bpf_iter_create:4963": tail("ITER_CREATE"),
    "bpf_iter_create:4966": lambda w: w.bpf("ITER_CREATE", flags=1),
    # ---- attach, detach, query ----
    "bpf_prog_attach:3586": tail("PROG_ATTACH"),
    "bpf_prog_attach:3589": lambda w: w.attach(0, 0, "cgroup_device", 1 << 8),
    "bpf_prog_attach:3593": lambda w: w.attach(0, 0, 99),
    "bpf_prog_attach:3601": lambda w: w.attach(w.cgroup(), w.prog("cgroup_sock", returns(1)), "cgroup_inet4_post_bind"),
    "bpf_prog_detach:3645": tail("PROG_DETACH"),
    "bpf_prog_detach:3667": lambda w: w.detach(0, 0, "xdp"),
    "bpf_prog_query:3677": lambda w: w.become("CAP_BPF").query(0, "cgroup_device"),
    "bpf_prog_query:3679": tail("PROG_QUERY"),
    "bpf_prog_query:3681": lambda w: w.query(0, "cgroup_device", query_flags=2),
    "bpf_prog_query:3720": lambda w: w.query(0, "xdp"),
    # ---- raw tracepoints ----
    "bpf_raw_tracepoint_open:3461": tail("RAW_TRACEPOINT_OPEN"),
    "bpf_raw_tp_link_attach:3403": lambda w: w.bpf("RAW_TRACEPOINT_OPEN", prog_fd=w.tracing(), name="sys_enter"),
    "bpf_raw_tp_link_attach:3413": lambda w: w.raw_tracepoint(NOWHERE),
    "bpf_raw_tp_link_attach:3418": lambda w: w.raw_tracepoint(kind="socket_filter"),
    "bpf_raw_tp_link_attach:3423": lambda w: w.raw_tracepoint("no_such"),
    "bpf_raw_tp_link_fill_link_info:3277": raw_tp_info(0, 8),
    "bpf_raw_tp_link_fill_link_info:3286": raw_tp_info(NOWHERE, 99),
    "bpf_raw_tp_link_fill_link_info:3291": raw_tp_info(NOWHERE, 4),
    "bpf_raw_tp_link_fill_link_info:3293": raw_tp_info(brink(3), 4),
    "bpf_raw_tp_link_fill_link_info:3294": raw_tp_info(brink(4), 4),
    # ---- test_run ----
    "bpf_prog_test_run:3733": tail("PROG_TEST_RUN"),
    "bpf_prog_test_run:3737": lambda w: w.run(ctx_size_in=8),
    "bpf_prog_test_run:3741": lambda w: w.run(ctx_size_out=8),
    # ---- ids ----
    "bpf_obj_get_next_id:3765": tail("MAP_GET_NEXT_ID"),
    "bpf_obj_get_next_id:3768": lambda w: w.become("CAP_BPF").bpf("MAP_GET_NEXT_ID"),
    "bpf_prog_by_id:3827": lambda w: w.bpf("PROG_GET_FD_BY_ID", prog_id=0),
    "bpf_prog_get_fd_by_id:3846": tail("PROG_GET_FD_BY_ID"),
    "bpf_prog_get_fd_by_id:3849": lambda w: w.become("CAP_BPF").bpf("PROG_GET_FD_BY_ID", prog_id=1),
    "bpf_map_get_fd_by_id:3873": lambda w: w.bpf("MAP_GET_FD_BY_ID", map_id=1, open_flags=1),
    "bpf_map_get_fd_by_id:3876": lambda w: w.become("CAP_BPF").bpf("MAP_GET_FD_BY_ID", map_id=1),
    "bpf_btf_get_fd_by_id:4457": tail("BTF_GET_FD_BY_ID"),
    "bpf_btf_get_fd_by_id:4460": lambda w: w.become("CAP_BPF").bpf("BTF_GET_FD_BY_ID", btf_id=1),
    "bpf_btf_load:4444": tail("BTF_LOAD"),
    "bpf_btf_load:4447": lambda w: w.become("CAP_NET_ADMIN").btf(),
    # ---- info ----
    "bpf_obj_get_info_by_fd:4415": tail("OBJ_GET_INFO_BY_FD"),
    "bpf_obj_get_info_by_fd:4419": lambda w: w.info(NO_FD),
    "bpf_prog_get_info_by_fd:4033": lambda w: w.info(w.prog(), info=NOWHERE),
    "bpf_prog_get_info_by_fd:4057": lambda w: prog_info({"insns": holds(w.map())}, 56, 52)(w),
    "bpf_prog_get_info_by_fd:4104": prog_info({}, 32, 20, 16),
    "bpf_prog_get_info_by_fd:4289": prog_info({}, 184, 180),
    "bpf_prog_get_info_by_fd:4296": lambda w: w.info(w.prog(), info=read_only()),
    "bpf_map_get_info_by_fd:4341": lambda w: w.info(w.map(), info=read_only(), info_len=88),
    "bpf_link_get_info_by_fd:4380": lambda w: w.info(w.link(), info=NOWHERE, info_len=56),
    "bpf_link_get_info_by_fd:4399": lambda w: w.info(w.link(), info=read_only(), info_len=56),
    "set_info_rec_size:3994": lambda w: asks(w, w.prog(), {132: 9}),
    "set_info_rec_size:3998": lambda w: asks(w, w.prog(), {172: 9}),
    "set_info_rec_size:4002": lambda w: asks(w, w.prog(), {176: 9}),
    "bpf_prog_get_info_by_fd:4186": lambda w: asks(w, w.prog(), {104: 1, 112: NOWHERE}),
    "bpf_prog_get_info_by_fd:4213": lambda w: asks(w, w.prog(), {108: 1, 120: NOWHERE}),
    "bpf_prog_get_info_by_fd:4233": lambda w: asks(w, described(w), {132: 8, 136: NOWHERE, 144: 1}),
    "bpf_prog_get_info_by_fd:4245": lambda w: asks(w, described(w), {148: 1, 152: NOWHERE, 172: 16}),
    # ---- the rest ----
    "bpf_task_fd_query:4525": tail("TASK_FD_QUERY"),
    "bpf_task_fd_query:4528": lambda w: w.become("CAP_BPF").bpf("TASK_FD_QUERY"),
    "bpf_task_fd_query:4531": lambda w: w.bpf("TASK_FD_QUERY", raw={8: 1}),
    "bpf_task_fd_query:4537": lambda w: w.bpf("TASK_FD_QUERY", raw={0: 77}),
    "bpf_task_fd_query:4543": lambda w: w.bpf("TASK_FD_QUERY", pid=w.task.pid, fd=NO_FD),
    "bpf_task_fd_query_copy:4476": lambda w: w.traced(0),
    "bpf_task_fd_query_copy:4484": lambda w: [
        event := w.task.perf_event_open("kprobe", FIRST_FUNCTION),
        w.task.ioctl(event, 0x40042408, w.prog("kprobe")),
        w.bpf("TASK_FD_QUERY", pid=w.task.pid, fd=event, buf=NOWHERE, buf_len=8),
    ],
    "bpf_task_fd_query_copy:4488": lambda w: w.traced(buf=NOWHERE, buf_len=64),
    "bpf_task_fd_query_copy:4497": lambda w: w.traced(buf=NOWHERE, buf_len=4),
    "bpf_task_fd_query_copy:4499": lambda w: w.traced(buf=brink(3), buf_len=4),
    "bpf_task_fd_query_copy:4507": lambda w: w.traced(24),
    "bpf_enable_stats:4941": tail("ENABLE_STATS"),
    "bpf_enable_stats:4944": lambda w: w.become("CAP_BPF").bpf("ENABLE_STATS"),
    "bpf_enable_stats:4952": lambda w: w.bpf("ENABLE_STATS", type=1),
    "bpf_prog_bind_map:4988": tail("PROG_BIND_MAP"),
    "bpf_prog_bind_map:4991": lambda w: w.bpf("PROG_BIND_MAP", flags=1),
}
