"""bpfsim.bcc: the dialect becomes C, tables become maps, and BCC's first example runs with one import changed."""

import ctypes
import os
import struct

import bpfsim
import pytest
from bpfsim import _core
from bpfsim.bcc import BPF
from bpfsim.bcc.dialect import translate
from bpfsim.bcc.types import MapTypes
from bpfsim.bcc.utils import printb
from bpfsim.compiler import CompileError, NoClang, find_clang

try:
    find_clang()
    CLANG = True
except NoClang:
    CLANG = False
needs_clang = pytest.mark.skipif(not CLANG, reason="no clang on this machine: BCC's C cannot be compiled here")

# In the shape of the best-known first example of XDP with BCC, in our own words: count packets by IP protocol, then
# give them all the same verdict.
COUNT_BY_PROTOCOL = r"""
#define KBUILD_MODNAME "count_by_protocol"
#include <uapi/linux/bpf.h>
#include <linux/in.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

BPF_TABLE(MAPTYPE, uint32_t, long, seen, 256);

/* The protocol in an IPv4 header, 0 where the packet is too short: not a call of seen.lookup(). */
static inline int ipv4_protocol(void *data, u64 at, void *data_end) {
    struct iphdr *ip = data + at;
    if ((void *)(ip + 1) > data_end)
        return 0;
    return ip->protocol;
}

static inline int ipv6_protocol(void *data, u64 at, void *data_end) {
    struct ipv6hdr *ip = data + at;
    return (void *)(ip + 1) > data_end ? 0 : ip->nexthdr;
}

int count_packets(struct CTX *ctx) {
    void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
    struct ethhdr *ethernet = data;
    u64 at = sizeof(*ethernet);
    uint32_t protocol = 0;
    long *count;

    if (data + at > data_end)
        return VERDICT;
    u16 kind = ethernet->h_proto;
    if (kind == htons(ETH_P_8021Q)) {
        struct vlan_hdr *vlan = data + at;
        at += sizeof(*vlan);
        if (data + at > data_end)
            return VERDICT;
        kind = vlan->h_vlan_encapsulated_proto;
    }
    if (kind == htons(ETH_P_IP))
        protocol = ipv4_protocol(data, at, data_end);
    else if (kind == htons(ETH_P_IPV6))
        protocol = ipv6_protocol(data, at, data_end);

    count = seen.lookup(&protocol);
    if (count)
        lock_xadd(count, 1);
    return VERDICT;
}
"""
COUNT_FLAGS = ["-w", "-DVERDICT=XDP_DROP", "-DCTX=xdp_md", '-DMAPTYPE="percpu_array"']

# One program that calls every method of tables that needs nothing but maps; packets are its clock.
EVERY_METHOD = r"""
struct pair { u32 a; u16 b; char name[2]; };
struct __attribute__((packed)) odd { u8 tag; u32 count; };
BPF_HASH(pairs, struct pair, struct odd, 8);
BPF_HASH(counts, u32);
BPF_ARRAY(cells, u64, 4);
BPF_HISTOGRAM(sizes);
BPF_QUEUE(fifo, u32, 3);
BPF_STACK(lifo, u32, 3);

static int touch(u32 key) {
    u64 one = 1, *cell;
    int index = 2;
    counts.increment(key);
    counts.increment(key, 10);
    counts.atomic_increment(key);
    cells.update(&index, &one);
    cell = cells.lookup(&index);
    return cell ? *cell : 0;
}

int all(struct xdp_md *ctx) {
    u32 length = ctx->data_end - ctx->data, popped = 0, gone = 77;
    struct pair who = {.a = length, .b = 2, .name = "x"};
    struct odd none = {};
    struct odd *mine = pairs.lookup_or_try_init(&who,
                                                &none);
    if (mine)
        mine->count += touch(length);
    counts.insert(&gone, &(u64){5});
    counts.insert(&gone, &(u64){6});   // a key that is there stays as it is
    fifo.push(&length);
    lifo.push(&length);
    if (fifo.peek(&popped) == 0 && popped == length)
        lifo.pop(&popped);
    sizes.increment(bpf_log2l(length));
    counts.delete(&(u32){78});
    bpf_trace_printk("length %d, \"%s\"\n", length, "quoted, ok");
    return XDP_PASS;
}
"""
PACKET = bytes(12) + b"\x08\x00" + b"\x45" + bytes(8) + b"\x11" + bytes(40)  # IPv4, UDP
ARP = bytes(12) + b"\x08\x06" + bytes(28)


# ---- the dialect -----------------------------------------------------------------------------------------------------


def squeezed(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("dialect", "plain"),
    [
        ("t.lookup(&k)", "((t__leaf *)bpf_map_lookup_elem(&t, &k))"),
        ("t . lookup ( &k )", "((t__leaf *)bpf_map_lookup_elem(&t, &k))"),
        ("t.update(&k, &v)", "bpf_map_update_elem(&t, &k, &v, BPF_ANY)"),
        ("t.insert(&k, &v)", "bpf_map_update_elem(&t, &k, &v, BPF_NOEXIST)"),
        ("t.delete(&k)", "bpf_map_delete_elem(&t, &k)"),
        ("t.push(&v)", "bpf_map_push_elem(&t, &v, BPF_ANY)"),
        ("t.push(&v, BPF_EXIST)", "bpf_map_push_elem(&t, &v, BPF_EXIST)"),
        ("t.call(ctx, 3)", "bpf_tail_call(ctx, &t, 3)"),
        ("t.delete(t.lookup(&k))", "bpf_map_delete_elem(&t, ((t__leaf *)bpf_map_lookup_elem(&t, &k)))"),
        ("t.delete(f(a, b[1, 2]))", "bpf_map_delete_elem(&t, f(a, b[1, 2]))"),
        ('"t.lookup(&k)"', '"t.lookup(&k)"'),
        ("'\"' + t.delete(&k) + '\"'", "'\"' + bpf_map_delete_elem(&t, &k) + '\"'"),
        ("x.t.lookup(&k)", "x.t.lookup(&k)"),
        ("p->t.lookup(&k)", "p->t.lookup(&k)"),
        ("other.lookup(&k)", "other.lookup(&k)"),
        ("/* t.lookup(&k) */ 1", "/* t.lookup(&k) */ 1"),
        ("bpf_trace_printk(text, 4)", "bpf_trace_printk(text, 4)"),
        (
            'bpf_trace_printk("%d, %s\\n", a, (b, c))',
            '({ char bcc_fmt[] ="%d, %s\\n"; bpf_trace_printk(bcc_fmt, sizeof(bcc_fmt), a, (b, c)); })',
        ),
    ],
)
def test_calls_become_helpers(dialect, plain):
    out = translate(f"BPF_HASH(t, u32);\nstatic int f(void) {{ return {dialect}; }}\n").code
    body = out[out.index("return ") + 7 : out.rindex("; }")]
    assert squeezed(body) == squeezed(plain)


def test_a_table_becomes_a_map_with_its_types():
    made = translate("BPF_HASH(t, struct key, u64, 1 << 4);\nBPF_HASH(u);\nBPF_QUEUE(q, int, 3);")
    assert made.tables == {"t": "hash", "u": "hash", "q": "queue"}
    assert "typedef typeof(struct key) t__key;" in made.code
    assert "int (*max_entries)[1 << 4];" in made.code
    assert "int (*max_entries)[10240];" in made.code
    assert "q__key" not in made.code


def test_only_functions_that_are_not_static_are_programs():
    source = """
    struct __attribute__((packed)) s { int a; };
    int declared(void *ctx);
    static int helper(void) { return 1; }
    inline int small(void) { return 1; }
    int one(void *ctx) { return helper(); }
    __attribute__((unused)) int two(void *ctx) __attribute__((cold)) { return 0; }
    __attribute__((section("xdp"))) int own(void *ctx) { return 0; }
    int (*pointer)(void) = 0;
    int table[] = { 1, 2 };
    struct s *three(void *ctx) { return 0; }
    """
    made = translate(source)
    assert made.functions == ["one", "two", "three"]
    assert made.code.count("always_inline") == 6
    assert 'section(".bpf.fn.one")' in made.code and 'section(".bpf.fn.own")' not in made.code


def test_lines_stay_where_they_were():
    table = "BPF_HASH(t,\n u32,\n u64);\n"
    calls = "  t.update(&a,\n    &b);\n  t.lookup_or_try_init(&a,\n\n &b);\n"
    source = f"{table}int f(void *ctx) {{\n{calls}  HERE;\n}}\n"
    out = translate(source).code
    assert [n for n, line in enumerate(out.splitlines(), 1) if "HERE" in line] == [10]
    assert out.count("\n") == source.count("\n")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "int f(void *c) { return t.lookpu(&k); }",
            r"p\.c:8: error: table 't' has no method 'lookpu'; there are lookup",
        ),
        ("int f(void *c) {\n return t.lookup(&k, 1); }", r"p\.c:9: error: t\.lookup\(\) takes 1 arguments, not 2"),
        ("int f(void *c) { return t.increment(); }", r"takes 1 or 2 arguments, not 0"),
        ("int f(void *c) { return t.lookup; }", "is a method: call it"),
        ("int f(void *c) { return (t.lookup(&k); }", "no bracket closes this"),
        ("BPF_HASH(a, b, c, d, e);", "BPF_HASH takes name, key, leaf, size; 5 were given"),
        ("BPF_HASH();", "0 were given"),
        ('BPF_TABLE("perf_output", int, int, t2, 1);', "type 'perf_output' is not modelled; there are hash"),
        ("BPF_PERF_OUTPUT(events);", "BPF_PERF_OUTPUT is not modelled .perf buffers"),
        ("BPF_RINGBUF_OUTPUT(ring, 8);", "BPF_RINGBUF_OUTPUT is not modelled"),
        ("TRACEPOINT_PROBE(net, x) { return 0; }", "TRACEPOINT_PROBE is not modelled .tracepoints"),
        ("int f(void *c) { u8 *p = cursor_advance(x, 14); return 0; }", "cursor_advance is not modelled"),
    ],
)
def test_what_is_wrong_or_not_modelled_is_said_with_its_line(source, words):
    with pytest.raises(CompileError, match=words):
        translate(f'BPF_HASH(t, u32);\n# 8 "p.c" 2\n{source}\n')


@pytest.mark.parametrize(
    "junk", ["", "(", "}", "BPF_HASH", "BPF_HASH(", "int f(", '"', "'", "/*", "t.", "#", "\\", "\0", "é"]
)
def test_no_text_breaks_the_translator(junk):
    for source in (
        junk,
        f"BPF_HASH(t);{junk}",
        f"int f(void *c) {{ t.{junk}",
        f"BPF_HASH(t); int f(void *c) {{ t.{junk} }}",
    ):
        try:
            found = translate(source)
        except CompileError:
            continue
        assert isinstance(found.code, str)


def test_calls_in_calls_do_not_explode():
    for depth in (12, 2000):
        calls = "t.lookup_or_try_init(" * depth + "&k" + ", &v)" * depth
        try:
            out = translate(f"BPF_HASH(t);\nint f(void *c) {{ {calls}; return 0; }}").code
            assert len(out) < 1000 * depth
        except CompileError as error:
            assert depth == 2000 and "nested too deeply" in str(error)


# ---- types -----------------------------------------------------------------------------------------------------------


@needs_clang
def test_keys_and_leaves_have_the_layout_that_clang_gave_them():
    text = """
    enum colour { RED, BLUE };
    struct inner { u8 x; u64 y; };
    struct leaf { char name[6]; u16 port; struct inner in[2]; enum colour c; union { u32 w; u8 b[4]; }; s16 t;
                  u32 low : 3, high : 29; _Bool yes; void *p; };
    struct __attribute__((packed)) key { u8 a; u32 b; u16 c; };
    BPF_HASH(t, struct key, struct leaf);
    int f(struct xdp_md *ctx) { return XDP_PASS; }
    """
    from bpfsim.bcc import _compile

    _, code = _compile(text, "prog.c", [])
    sections = bpfsim.open_object(code)._file.section_rows()
    types = MapTypes(next(s["data"] for s in sections if s["name"] == ".BTF"))
    key, leaf = types.of_map("t")
    assert ctypes.sizeof(key) == 7 and (key.a.offset, key.b.offset, key.c.offset) == (0, 1, 5)
    assert ctypes.sizeof(leaf) == 8 + 32 + 4 + 4 + 2 + 2 + 4 + 1 + 7 + 8 - 0
    made = leaf.from_buffer_copy(bytes(range(ctypes.sizeof(leaf))))
    assert made.port == 0x0706 and getattr(leaf, "in").offset == 8
    assert made.w == int.from_bytes(made.b, "little")
    assert made.low == 52 & 7 and "name=" in repr(made)
    with pytest.raises(KeyError, match="no map 'u'"):
        types.of_map("u")


# ---- on a machine ----------------------------------------------------------------------------------------------------


def live_task():
    try:
        return bpfsim.LiveKernel().spawn()
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["simulated", "live"])
def task(request):
    return live_task() if request.param == "live" else bpfsim.Kernel().spawn("python3")


@needs_clang
def test_packets_are_counted_by_protocol(task):
    b = BPF(text=COUNT_BY_PROTOCOL, cflags=COUNT_FLAGS, task=task)
    fn = b.load_func("count_packets", BPF.XDP)
    assert b.load_func("count_packets", BPF.XDP) is fn
    for packet, times in ((PACKET, 3), (ARP, 2)):
        for _ in range(times):
            assert fn.test_run(packet).retval == BPF.XDP_DROP
    seen = b["seen"]
    assert {key.value: seen.sum(key).value for key in seen if seen.sum(key).value} == {17: 3, 0: 2}
    assert len(seen) == 256 and len(seen[17]) == task.possible_cpus
    assert seen.max(17).value <= 3 and seen.average(0) == 2 / task.possible_cpus
    assert b.get_table("seen", reducer=lambda x, y: x + y)[17] == 3
    seen.clear()
    assert seen.sum(17).value == 0


@needs_clang
def test_every_method_does_what_bcc_says(task):
    b = BPF(text=EVERY_METHOD, task=task)
    fn = b.load_func("all", BPF.XDP)
    for _ in range(2):
        assert fn.test_run(PACKET).retval == BPF.XDP_PASS
    n = len(PACKET)
    counts, pairs = b["counts"], b["pairs"]
    assert {k.value: v.value for k, v in counts.items()} == {n: 2 * 12, 77: 5}
    ((who, odd),) = pairs.items()
    assert (who.a, who.b, who.name, odd.tag, odd.count) == (n, 2, b"x", 0, 2)
    assert b["cells"][2].value == 1 and len(b["cells"]) == 4
    assert {k.value: v.value for k, v in b["sizes"].items() if v.value} == {n.bit_length(): 2}
    assert [leaf.value for leaf in b["fifo"].values()] == [n, n]
    assert b["lifo"].values() == []


@needs_clang
def test_tables_have_bccs_interface(task):
    b = BPF(text=EVERY_METHOD, task=task)
    counts, pairs, cells, fifo, lifo = (b[name] for name in ("counts", "pairs", "cells", "fifo", "lifo"))
    assert b["counts"] is counts and list(b) == ["pairs", "counts", "cells", "sizes", "fifo", "lifo"]
    counts[counts.Key(5)] = counts.Leaf(50)
    counts[6] = 60
    assert counts[5].value == 50 and counts[counts.Key(6)].value == 60 and len(counts) == 2
    assert sorted(k.value for k in counts) == [5, 6] == sorted(k.value for k in counts)
    assert sorted(v.value for v in counts.values()) == [50, 60]
    assert 5 in counts and 7 not in counts and counts.get(7) is None
    with pytest.raises(KeyError):
        counts[7]
    del counts[5]
    with pytest.raises(KeyError):
        del counts[5]
    counts.zero()
    assert counts[6].value == 0
    counts.clear()
    assert len(counts) == 0
    pairs[pairs.Key(1, 2, b"ab")] = pairs.Leaf(3, 4)
    pairs[(5, 6, b"cd")] = (7, 8)
    assert sorted((k.a, v.count) for k, v in pairs.items()) == [(1, 4), (5, 8)]
    with pytest.raises(TypeError, match="the key of this table is a pair"):
        pairs["text"]
    with pytest.raises(IndexError, match="keys 0 to 3, not 4"):
        cells[4]
    cells[3] = 9
    del cells[3]
    assert cells[3].value == 0
    for value in (1, 2, 3):
        fifo.push(value)
        lifo.push(lifo.Leaf(value))
    with pytest.raises(OSError) as full:
        fifo.push(4)
    assert full.value.errname == "E2BIG"
    assert fifo.peek().value == 1 and lifo.peek().value == 3
    assert [v.value for v in fifo.itervalues()] == [1, 2, 3] and [v.value for v in lifo.values()] == [3, 2, 1]
    with pytest.raises(KeyError):
        fifo.pop()


@needs_clang
def test_descriptors_are_given_back(task):
    def open_now():
        return len(task.fds) if hasattr(task, "fds") else len(os.listdir("/proc/self/fd"))

    before = open_now()
    with BPF(text=EVERY_METHOD, task=task) as b:
        b.load_func("all", BPF.XDP)
        assert open_now() == before + len(b._fds) + 1
    assert open_now() == before
    bad = "BPF_HASH(t);\nint bad(void *ctx) {\n  u64 key = 1;\n  return *t.lookup(&key);\n}\n"
    b = BPF(text=bad + "int good(void *c) { return 2; }", task=task)
    with pytest.raises(bpfsim.VerifierError) as refused:
        b.load_func("bad", BPF.XDP)
    assert "; return *t.lookup(&key); @ prog.c:4" in refused.value.log, "the log quotes the learner's own line"
    assert open_now() == before + 1
    assert b.load_func("good", BPF.XDP).test_run(PACKET).retval == 2
    assert b["t"].items() == [], "the tables outlive a refused program"
    b.cleanup()
    assert open_now() == before


@needs_clang
def test_wrong_names_are_told_what_there_is(tmp_path):
    k = bpfsim.Kernel()
    b = BPF(text=EVERY_METHOD, kernel=k)
    with pytest.raises(KeyError, match="no function 'al' to load; it has all"):
        b.load_func("al", BPF.XDP)
    with pytest.raises(KeyError, match="no table 'count'; it has pairs, counts"):
        b["count"]
    with pytest.raises(ValueError, match="no program type has the number 999"):
        b.load_func("all", 999)
    with pytest.raises(AttributeError, match=r"BPF.attach_kprobe is not modelled here \(kprobes\)"):
        b.attach_kprobe(event="x", fn_name="y")
    with pytest.raises(AttributeError, match="BPF has no 'attach_xpd'"):
        b.attach_xpd("eth0", None)
    with pytest.raises(ValueError, match="one of them"):
        BPF(kernel=k)
    with pytest.raises(CompileError, match=r"prog\.c:2:25: error: use of undeclared"):
        BPF(text="\nint f(void *c) { return y; }", kernel=k)
    with pytest.raises(CompileError, match=r"'linux/nothing\.h' file not found"):
        BPF(text="#include <linux/nothing.h>\nint f(void *c) { return 0; }", kernel=k)
    with pytest.raises(CompileError, match="no function to load"):
        BPF(text="BPF_HASH(t);", kernel=k)
    source = tmp_path / "mine.c"
    source.write_text("int f(void *c) { return 0; }")
    assert BPF(src_file=source, kernel=k).load_func(b"f", BPF.XDP).name == "f"


@needs_clang
def test_a_license_other_than_gpl_is_passed_on():
    from bpfsim.bcc import _compile

    _, code = _compile("#define BPF_LICENSE Proprietary\nint f(void *c) { return 0; }", "p.c", [])
    assert bpfsim.open_object(code).license == "Proprietary"
    _, code = _compile("int f(void *c) { return 0; }", "p.c", [])
    assert bpfsim.open_object(code).license == "GPL"


@needs_clang
def test_the_first_example_runs_with_one_import_changed(capsys):
    b = BPF(text=COUNT_BY_PROTOCOL, cflags=COUNT_FLAGS)
    fn = b.load_func("count_packets", BPF.XDP)
    eth0 = _core.net_device(BPF.machine(), "eth0")
    b.attach_xdp("eth0", fn, 0)
    assert [eth0.receive(p).verdict for p in (PACKET, PACKET, ARP)] == ["XDP_DROP"] * 3
    with pytest.raises(OSError) as busy:
        b.attach_xdp("eth0", fn, BPF.XDP_FLAGS_UPDATE_IF_NOEXIST)
    assert busy.value.errname == "EBUSY"
    assert {k.value: b["seen"].sum(k).value for k in b["seen"] if b["seen"].sum(k).value} == {17: 2, 0: 1}
    b.remove_xdp("eth0", 0)
    assert not eth0.receive(PACKET).ran
    assert b["seen"].sum(17).value == 2
    with pytest.raises(OSError) as unknown:
        b.attach_xdp("eth7", fn, 0)
    assert unknown.value.errname == "ENODEV"
    assert BPF.machine() is BPF(text="int f(void *c) { return 0; }").kernel
    b.cleanup()


@needs_clang
@pytest.mark.parametrize(("name", "what"), [("kprobe__sys_clone", "kprobes"), ("tracepoint__a__b", "tracepoints")])
def test_what_bcc_attaches_by_its_name_is_refused_by_name(name, what):
    with pytest.raises(ValueError, match=f"{name}.*{what} are not modelled"):
        BPF(text=f"int {name}(void *ctx) {{ return 0; }}")


@needs_clang
def test_trace_pipe_is_read_as_in_bcc(capsys):
    b = BPF(text=EVERY_METHOD, kernel=bpfsim.Kernel())
    fn = b.load_func("all", BPF.XDP)
    for _ in range(4):
        fn.test_run(PACKET)
    message = f'length {len(PACKET)}, "quoted, ok"'.encode()
    assert message in b.trace_readline()
    task, pid, cpu, flags, seconds, text = b.trace_fields()
    assert (task, pid, text) == (b"python3", b.task.pid, message)
    assert cpu in (0, 1) and seconds > 0 and flags
    b.trace_print("{0} says {5}")
    assert capsys.readouterr().out.splitlines() == [f"python3 says {message.decode()}"] * 2
    assert b.trace_readline() is None and b.trace_fields(nonblocking=True) == (None,) * 6
    b.trace_print()
    with pytest.raises(EOFError, match="trace_pipe is empty"):
        b.trace_fields()
    printb(b"%d bytes" % 3)
    assert capsys.readouterr().out == "3 bytes\n"


def test_nothing_of_the_live_kernel_s_devices_is_touched():
    task = live_task()
    if not CLANG:
        pytest.skip("no clang on this machine: BCC's C cannot be compiled here")
    b = BPF(text="int f(void *c) { return 0; }", task=task)
    with pytest.raises(PermissionError, match="attaches nothing"):
        b.attach_xdp("lo", b.load_func("f", BPF.XDP), 0)
    b.close()


def test_constants_are_bccs():
    assert (BPF.SOCKET_FILTER, BPF.SCHED_CLS, BPF.SCHED_ACT, BPF.XDP, BPF.CGROUP_SKB, BPF.SK_MSG) == (1, 3, 4, 6, 8, 16)
    assert (BPF.XDP_FLAGS_UPDATE_IF_NOEXIST, BPF.XDP_FLAGS_SKB_MODE, BPF.XDP_FLAGS_DRV_MODE) == (1, 2, 4)
    assert struct.calcsize("P") == 8, "addresses of 64 bits are assumed by the tables' types"
