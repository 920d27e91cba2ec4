"""The calls that run into the checks of programs.tsv."""

import ctypes
import struct

from .world import KEY, NOWHERE, RETURN_2, before_a_hole, holds, memory

FRAME, LIVE_FRAMES, SLEEPABLE = bytes(64), 2, 16


def insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def call(helper):
    return insn(0x85, imm=helper)


def answer(value):
    return insn(0xB7, imm=value) + insn(0x95)


def load_address(register, fd):
    return insn(0x18, register, 2, imm=fd) + bytes(8)


def run(kind="socket_filter", data=FRAME, ctx=None, insns=RETURN_2, load=None, **fields):
    """TEST_RUN of a program of this kind with this packet and context."""
    given = {"data_in": data, "data_size_in": len(data)} if data else {}
    given |= {"ctx_in": ctx, "ctx_size_in": len(ctx)} if ctx else {}
    return lambda w: w.run(w.prog(kind, insns, **load or {}), **given | fields)


def skb(offset, value=1, size=4):
    """A struct __sk_buff with one number in it."""
    return bytes(offset) + value.to_bytes(size, "little") + bytes(192 - offset - size)


def xdp_md(ingress=0, queue=0, egress=0):
    return struct.pack("<6I", 0, 64, 0, ingress, queue, egress)


def connection(sk=0, family=2, local_port=0, ingress=0):
    return struct.pack("<QII44xII", sk, family, 6, local_port, ingress)


LOOKUP = {"expected_attach_type": "sk_lookup"}
ALLOW = answer(1)


def selects_of_a_group(world):
    """The program selects a listener that shares its port, and does not say that the group is not asked."""
    listener, socks = world.task.socket(), world.map("sockmap")
    world.task.setsockopt(listener, "SO_REUSEPORT", 1)
    world.task.bind(listener, "127.0.0.1", 80)
    world.task.listen(listener)
    world.update(socks, value=listener.to_bytes(8, "little"))
    look_up = insn(0xBF, 6, 1) + insn(0x62, 10, off=-4) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-4)
    look_up += insn(0x18, 1, 1, imm=socks) + bytes(8) + call(1) + insn(0x55, 0, off=2) + answer(1)
    select = insn(0xBF, 7) + insn(0xBF, 1, 6) + insn(0xBF, 2, 7) + insn(0xB7, 3) + call(124)
    release = insn(0xBF, 1, 7) + call(86) + answer(1)
    return run("sk_lookup", None, connection(), look_up + select + release, LOOKUP)(world)


class Sealed:
    """A task whose attrs nobody can write into."""

    def __init__(self, task):
        self.task = task

    def sys_bpf(self, cmd, attr, size=None):
        page = memory(1, bytes(attr))
        return self.task.sys_bpf(cmd, (ctypes.c_char * 4096).from_address(page), size or len(attr))

    @property
    def last_refusal(self):
        return self.task.last_refusal


def sealed(world):
    prog = world.prog("syscall", prog_flags=SLEEPABLE)
    world.task = Sealed(world.task)
    return world.bpf("PROG_TEST_RUN", prog_fd=prog)


# ---- iterators ----


def iterator(world, target="bpf_map", insns=None, **more):
    attach = {"attach_btf_id": world.kernel.btf_id(f"bpf_iter_{target}"), "expected_attach_type": "trace_iter"}
    return world.prog("tracing", insns or answer(0), **attach | more)


def iter_link(world, prog=None, **more):
    return world.bpf("LINK_CREATE", prog_fd=prog or iterator(world), attach_type="trace_iter", **more)


def read(target, insns):
    def case(world):
        link = iter_link(world, iterator(world, target, insns(world)))
        return world.task.read(world.bpf("ITER_CREATE", link_fd=link), 100)

    return case


def writes_too_much(world):
    """40000 bytes of a map's value go to the reader, whose buffer has 32768."""
    value = load_address(2, world.map(value_size=40000, max_entries=1))
    return insn(0x79, 1, 1, 0) + insn(0x79, 1, 1, 0) + value + insn(0xB7, 3, imm=40000) + call(127) + answer(0)


def target_name(pointer=0, length=0):
    """What INFO says of an iterator's link, whose name is longer than 3 bytes."""
    return lambda w: w.info(iter_link(w), bytearray(struct.pack("<IIIIQI", 0, 0, 0, 0, pointer, length) + bytes(28)))


def update(new, **fields):
    return lambda w: w.bpf("LINK_UPDATE", link_fd=iter_link(w), new_prog_fd=new(w), **fields)


# ---- trampolines ----


def fentry(world):
    function = world.kernel.btf_id("do_exit")
    return world.prog("tracing", answer(0), attach_btf_id=function, expected_attach_type="trace_fentry")


def attach(world, prog):
    return world.bpf("LINK_CREATE", prog_fd=prog, attach_type="trace_fentry")


def set_on_event(world, prog):
    event = world.task.perf_event_open("tracepoint", "sched:sched_switch")
    return world.bpf("LINK_CREATE", prog_fd=prog, target_fd=event, attach_type="perf_event")


def struct_ops(world, value_size=128, **more):
    """A map of the kernel's struct bpf_dummy_ops, behind 64 bytes of the kernel's own."""
    kind = world.kernel.btf_id("bpf_struct_ops_bpf_dummy_ops")
    return world.create(
        "struct_ops", 4, value_size, 1, **{"btf_vmlinux_value_type_id": kind, "btf_fd": world.btf()} | more
    )


def update_ops(at=64, byte=0, key=KEY, **more):
    value = bytes(at) + bytes([byte]) + bytes(127 - at)
    return lambda w: w.update(struct_ops(w), key, value, **more)


RENO = {"name": "a", "ssthresh": answer(2), "cong_avoid": answer(0), "undo_cwnd": answer(2)}


def congestion_control(world, **members):
    return world.task.struct_ops("tcp_congestion_ops", RENO | members)


def undo_cwnd_as_ssthresh(world):
    member = world.kernel.struct_ops_member("tcp_congestion_ops", "undo_cwnd")
    return congestion_control(world, ssthresh=world.task.prog_load("struct_ops", answer(2), **member))


def filled_again(world):
    made = congestion_control(world)
    made[0] = made[0][8:16] + made[0][8:]


def unregistered_twice(world):
    made = congestion_control(world)
    for _ in range(2):
        del made[0]


def two_lookups(ids):
    def case(world):
        net = world.task.open("/proc/self/ns/net")
        look = [world.prog("sk_lookup", ALLOW, **LOOKUP) for _ in range(2)]
        links = [world.bpf("LINK_CREATE", prog_fd=fd, target_fd=net, attach_type="sk_lookup") for fd in look]
        world.bpf("PROG_QUERY", target_fd=net, attach_type="sk_lookup", prog_ids=ids, prog_cnt=1)
        return links

    return case


CASES = {
    # ---- TEST_RUN ----
    "bpf_test_finish:435": run("xdp", bytes(8000), data_out=bytearray(100), data_size_out=100),
    "bpf_test_init:772": run(data=bytes(4000)),
    "bpf_test_init:781": run(data=None, data_in=NOWHERE, data_size_in=64),
    "bpf_prog_test_run_tracing:797": lambda w: w.run(iterator(w), flags=1),
    "bpf_prog_test_run_raw_tp:867": run("raw_tracepoint"),
    "bpf_prog_test_run_raw_tp:871": run("raw_tracepoint", None, bytes(97)),
    "bpf_prog_test_run_raw_tp:874": run("raw_tracepoint", None, cpu=1),
    "bpf_ctx_init:936": run(ctx_in=NOWHERE, ctx_size_in=8),
    "convert___skb_to_skb:991": run(ctx=skb(0)),
    "convert___skb_to_skb:997": run(ctx=skb(12)),
    "convert___skb_to_skb:1005": run(ctx=skb(44)),
    "convert___skb_to_skb:1011": run(ctx=skb(68)),
    "convert___skb_to_skb:1019": run(ctx=skb(168)),
    "convert___skb_to_skb:1025": run(ctx=skb(180)),
    "convert___skb_to_skb:1044": run(ctx=skb(160, 49)),
    "convert___skb_to_skb:1049": run(ctx=skb(164, 65536)),
    "bpf_prog_test_run_skb:1104": run(batch_size=1),
    "bpf_prog_test_run_skb:1107": run(data=bytes(13)),
    "bpf_prog_test_run_skb:1158": run(ctx=skb(40, 99)),
    "xdp_convert_md_to_buff:1280": run("xdp", ctx=xdp_md(egress=1)),
    "xdp_convert_md_to_buff:1286": run("xdp", ctx=xdp_md(queue=1)),
    "xdp_convert_md_to_buff:1292": run("xdp", ctx=xdp_md(99)),
    "xdp_convert_md_to_buff:1313": run("xdp", ctx=xdp_md(1, 99)),
    "bpf_prog_test_run_xdp:1347": run("xdp", load={"expected_attach_type": "xdp_devmap"}),
    "bpf_prog_test_run_xdp:1350": run("xdp", flags=1),
    "bpf_prog_test_run_xdp:1356": run("xdp", flags=LIVE_FRAMES, batch_size=257),
    "bpf_prog_test_run_xdp:1358": run("xdp", batch_size=1),
    "bpf_prog_test_run_xdp:1444": run("xdp", None, data_in=before_a_hole(3520), data_size_in=5000),
    "verify_user_bpf_flow_keys:1492": run("flow_dissector", insns=answer(0), ctx=bytes([1])),
    "verify_user_bpf_flow_keys:1498": run("flow_dissector", insns=answer(0), ctx=bytes(52) + b"\1"),
    "bpf_prog_test_run_flow_dissector:1520": run("flow_dissector", insns=answer(0), flags=1),
    "bpf_prog_test_run_flow_dissector:1523": run("flow_dissector", bytes(13), insns=answer(0)),
    "bpf_prog_test_run_sk_lookup:1584": run("sk_lookup", None, connection(), ALLOW, LOOKUP, flags=1),
    "bpf_prog_test_run_sk_lookup:1588": run("sk_lookup", FRAME, connection(), ALLOW, LOOKUP),
    "bpf_prog_test_run_sk_lookup:1598": run("sk_lookup", None, None, ALLOW, LOOKUP),
    "bpf_prog_test_run_sk_lookup:1601": run("sk_lookup", None, connection(sk=1), ALLOW, LOOKUP),
    "bpf_prog_test_run_sk_lookup:1604": run("sk_lookup", None, connection(ingress=1), ALLOW, LOOKUP),
    "bpf_prog_test_run_sk_lookup:1607": run("sk_lookup", None, connection(local_port=65536), ALLOW, LOOKUP),
    "bpf_prog_test_run_sk_lookup:1630": run("sk_lookup", None, connection(family=1), ALLOW, LOOKUP),
    "bpf_prog_test_run_sk_lookup:1655": selects_of_a_group,
    "bpf_prog_test_run_syscall:1687": run("syscall", load={"prog_flags": SLEEPABLE}),
    "bpf_prog_test_run_syscall:1691": run("syscall", None, bytes(65536), load={"prog_flags": SLEEPABLE}),
    "bpf_prog_test_run_syscall:1704": sealed,
    # ---- iterators ----
    "bpf_seq_read:218": read("bpf_link", writes_too_much),
    "bpf_iter_run_prog:725": read("task", lambda w: answer(1)),
    "bpf_iter_link_attach:519": lambda w: iter_link(w, flags=1),
    "bpf_iter_link_attach:526": lambda w: iter_link(w, iter_info_len=4),
    "bpf_iter_link_attach:535": lambda w: iter_link(w, iter_info=NOWHERE, iter_info_len=4),
    "bpf_iter_link_attach:552": lambda w: iter_link(w, iterator(w, prog_flags=SLEEPABLE)),
    "bpf_iter_new_fd:644": lambda w: w.bpf("ITER_CREATE", link_fd=w.link()),
    "bpf_iter_link_replace:419": update(iterator, flags=4, old_prog_fd=5),
    "bpf_iter_link_replace:426": update(lambda w: iterator(w, "task")),
    "bpf_iter_link_fill_link_info:466": target_name(length=3),
    "bpf_iter_link_fill_link_info:475": target_name(NOWHERE, 64),
    "bpf_iter_link_fill_link_info:480": target_name(NOWHERE, 3),
    "bpf_iter_link_fill_link_info:482": target_name(before_a_hole(2), 3),
    "bpf_iter_link_fill_link_info:483": target_name(before_a_hole(3), 3),
    # ---- kernel functions, lists of programs, struct_ops ----
    "bpf_freplace_check_tgt_prog:561": lambda w: [
        (w.update(w.map("prog_array"), value=struct.pack("<I", fd)), w.attached(w.prog("ext", **fields)))
        for fd, fields in [w.target()]
    ],
    "__bpf_trampoline_link_prog:581": lambda w: [
        w.attached(w.prog("ext", **fields)) for _, fields in [w.target()] for _ in range(2)
    ],
    "__bpf_trampoline_link_prog:589": lambda w: [
        (w.attached(watcher), w.attached(w.prog("ext", **fields))) for _, fields, watcher in [w.watched()]
    ],
    "__bpf_trampoline_link_prog:598": lambda w: [attach(w, fentry(w)) for _ in range(39)],
    "__bpf_trampoline_link_prog:606": lambda w: [attach(w, fd) for fd in [fentry(w)] * 2],
    "bpf_check_tail_call:2253": lambda w: [
        (w.update(fd, value=struct.pack("<I", w.prog("xdp"))), w.prog(insns=holds(fd))) for fd in [w.map("prog_array")]
    ],
    "bpf_prog_array_copy:2550": lambda w: [set_on_event(w, fd) for fd in [w.prog("tracepoint")] * 2],
    "bpf_prog_array_copy_to_user:2453": two_lookups(NOWHERE),
    "bpf_prog_array_copy_to_user:2455": two_lookups(bytearray(4)),
    "bpf_struct_ops_map_alloc_check:619": lambda w: struct_ops(w, map_flags=1),
    "bpf_struct_ops_map_alloc:632": lambda w: w.nobody().create("struct_ops", 4, 8, 1, btf_vmlinux_value_type_id=1),
    "bpf_struct_ops_map_alloc:636": lambda w: struct_ops(w, btf_vmlinux_value_type_id=1),
    "bpf_struct_ops_map_alloc:640": lambda w: struct_ops(w, 8),
    "bpf_struct_ops_map_get_next_key:241": lambda w: w.next(struct_ops(w)),
    "bpf_struct_ops_map_sys_lookup_elem:256": lambda w: w.lookup(struct_ops(w), b"\1\0\0\0"),
    "check_zero_holes:312": update_ops(8, 1),
    "check_zero_holes:323": update_ops(127, 1),
    "bpf_struct_ops_map_update_elem:376": update_ops(flags=1),
    "bpf_struct_ops_map_update_elem:379": update_ops(key=b"\1\0\0\0"),
    "bpf_struct_ops_map_update_elem:391": update_ops(0, 1),
    "bpf_struct_ops_map_update_elem:403": filled_again,
    "bpf_struct_ops_map_update_elem:454": lambda w: congestion_control(w, key=1),
    "bpf_struct_ops_map_update_elem:476": undo_cwnd_as_ssthresh,
    "bpf_struct_ops_map_delete_elem:551": unregistered_twice,
    "bpf_struct_ops_map_delete_elem:553": lambda w: w.delete(struct_ops(w)),
}
