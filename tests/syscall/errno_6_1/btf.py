"""The calls that run into the checks of btf.tsv: most load a blob of few types, one of which has one wrong word."""

import struct

from btf_bytes import array, blob, enum, integer, of, proto, record, section, to

from .world import NO_FD, NOWHERE, RETURN_2, before_a_hole, read_only

BEYOND = 0x100000  # no type has this number
NO_TYPE = 9


def refused(says, *types, **bent):
    """BTF_LOAD of these types, and what the checker must say of them."""

    def case(world):
        try:
            world.btf(blob(*types, **bent))
        except OSError as error:
            assert error.reason == says, error
            raise

    return case


def kernel_btf(**words):
    """What INFO says of the kernel's own BTF, which has a name."""

    def case(world):
        room = bytearray(32)
        struct.pack_into(
            "<QIIQII", room, 0, *({"btf": 0, "size": 0, "id": 0, "name": 0, "len": 0, "own": 0} | words).values()
        )
        world.info(world.bpf("BTF_GET_FD_BY_ID", btf_id=1), room)

    return case


def refused_program(says, load):
    """PROG_LOAD, and what the verifier's log must say."""

    def case(world):
        log = bytearray(4096)
        try:
            load(world, log_level=1, log_buf=log, log_size=len(log))
        except OSError:
            text = log.rstrip(b"\0").decode()
            assert says in text, text
            raise

    return case


def walked(says, *reads):
    """A program of an iterator over tasks that reads on from pointer to pointer at these offsets, by these opcodes."""
    insns = b"".join(struct.pack("<BBhi", size, 0x11, at, 0) for size, at in reads) + RETURN_2

    def load(world, **log):
        task = world.kernel.btf_id("bpf_iter_task")
        world.prog("tracing", insns, attach_btf_id=task, expected_attach_type="trace_iter", **log)

    return refused_program(says, load)


def relocated(says, type_id):
    """A program that asks the kernel to find the second type, a prototype, or another."""

    def load(world, **log):
        words = {"func_info": struct.pack("<II", 0, 3), "func_info_cnt": 1, "func_info_rec_size": 8}
        words |= {"core_relos": struct.pack("<IIII", 0, type_id, 0, 0), "core_relo_cnt": 1, "core_relo_rec_size": 16}
        world.prog(prog_btf_fd=world.btf(blob(INT, proto(1), to("func", 2, "main"))), **words, **log)

    return refused_program(says, load)


WORD, LONG = 0x61, 0x79

INT, FWD, VOID = integer(), of("fwd", "f"), proto(0)
ODD = integer(bits=7, name="odd")  # no C type
VAR = of("var", "v", 1, 0)
LABYRINTH = [proto(20), *(to("const", number + 1) for number in range(2, 41)), INT]

CASES = {
    # ---- header and sections ----
    "btf_parse:5005": lambda w: w.btf(btf_size=(16 << 20) + 1),
    "btf_parse:5022": lambda w: w.btf(btf_log_level=1),
    "btf_parse:5044": lambda w: w.btf(btf=NOWHERE),
    "btf_parse:5067": lambda w: w.btf(btf_log_level=1, btf_log_buf=bytearray(128), btf_log_size=128),
    "btf_parse_hdr:4895": lambda w: w.btf(blob(INT)[:7]),
    "btf_parse_hdr:4902": refused("btf_header not found", INT, hdr_len=4000),
    "btf_parse_hdr:4913": refused("Unsupported btf_header", INT, hdr_len=28),
    "btf_parse_hdr:4927": refused("Invalid magic", INT, magic=0xEB9E),
    "btf_parse_hdr:4932": refused("Unsupported version", INT, version=2),
    "btf_parse_hdr:4937": refused("Unsupported flags", INT, flags=1),
    "btf_parse_hdr:4942": lambda w: w.btf(blob()[:24]),
    "btf_check_sec_info:4856": refused("Invalid section offset", INT, type_off=4000, str_off=4000),
    "btf_check_sec_info:4861": refused("Unsupported section found", INT, type_off=4),
    "btf_check_sec_info:4865": refused("Section overlap found", INT, str_off=12),
    "btf_check_sec_info:4870": refused("Total section length too long", INT, str_len=400),
    "btf_check_sec_info:4878": refused("Unsupported section found", INT, str_len=4),
    "btf_parse_str_sec:4799": refused(
        "String section is not at the end", INT, type_off=16, type_len=5, str_off=0, str_len=16
    ),
    "btf_parse_str_sec:4808": refused("Invalid string section", INT, type_len=21, str_off=21, str_len=0),
    "btf_parse_str_sec:4812": refused("Invalid string section", INT, type_len=12, str_off=12, str_len=9),
    "btf_parse_type_sec:4772": refused("Unaligned type_off", type_off=1, str_off=0),
    "btf_parse_type_sec:4777": refused("No type found"),
    "btf_check_type_tags:4972": refused("Max chain length or cycle detected", *LABYRINTH),
    "btf_check_type_tags:4977": refused(
        "Type tags don't precede modifiers", INT, to("type_tag", 1, "t"), to("const", 2)
    ),
    # ---- each type by itself ----
    "btf_check_meta:4597": refused("[2] meta_left:4 meta_needed:12", INT, INT, missing=12),
    "btf_check_meta:4604": refused("[1] Invalid btf_info:60000000", of("void", vlen=0x60000000)),
    "btf_check_meta:4611": refused("[1] Invalid kind:20", of("void", vlen=20 << 24)),
    "btf_check_meta:4617": refused("[1] Invalid name_offset:99", integer(name=99)),
    "btf_int_check_meta:2138": refused("meta_left:0 meta_needed:4", INT, missing=4),
    "btf_int_check_meta:2143": refused("vlen != 0", integer(vlen=1)),
    "btf_int_check_meta:2148": refused("Invalid btf_info kind_flag", integer(kflag=1)),
    "btf_int_check_meta:2155": refused("Invalid int_data:10000020", integer(encoding=16)),
    "btf_int_check_meta:2163": refused("nr_bits exceeds 128", integer(129, 32)),
    "btf_int_check_meta:2168": refused("nr_bits exceeds type_size", integer(33)),
    "btf_int_check_meta:2183": refused("Unsupported encoding", integer(encoding=3)),
    "btf_ref_type_check_meta:2476": refused("vlen != 0", to("const", 0, vlen=1)),
    "btf_ref_type_check_meta:2481": refused("Invalid btf_info kind_flag", INT, to("type_tag", 1, "t", kflag=1)),
    "btf_ref_type_check_meta:2486": refused("Invalid type_id", to("ptr", BEYOND)),
    "btf_ref_type_check_meta:2496": refused("Invalid name", to("typedef", 0)),
    "btf_ref_type_check_meta:2502": refused("Invalid name", to("type_tag", 0)),
    "btf_ref_type_check_meta:2507": refused("Invalid name", to("const", 0, "c")),
    "btf_fwd_check_meta:2746": refused("vlen != 0", of("fwd", "f", vlen=1)),
    "btf_fwd_check_meta:2751": refused("type != 0", of("fwd", "f", 1)),
    "btf_fwd_check_meta:2758": refused("Invalid name", of("fwd")),
    "btf_array_check_meta:2821": refused("meta_left:8 meta_needed:12", array(1), missing=4),
    "btf_array_check_meta:2827": refused("Invalid name", INT, array(1, name="a")),
    "btf_array_check_meta:2832": refused("vlen != 0", INT, array(1, vlen=1)),
    "btf_array_check_meta:2837": refused("Invalid btf_info kind_flag", INT, array(1, kflag=1)),
    "btf_array_check_meta:2842": refused("size != 0", INT, array(1, size=4)),
    "btf_array_check_meta:2850": refused("Invalid elem", INT, array(0)),
    "btf_array_check_meta:2855": refused("Invalid index", INT, array(1, 0)),
    "btf_struct_check_meta:3074": refused("meta_left:8 meta_needed:12", record(4, ("x", 1, 0)), missing=4),
    "btf_struct_check_meta:3081": refused("Invalid name", record(4, name="1")),
    "btf_struct_check_meta:3092": refused("Invalid member name_offset:99", INT, record(4, (99, 1, 0))),
    "btf_struct_check_meta:3099": refused("Invalid name", INT, record(4, ("1", 1, 0))),
    "btf_struct_check_meta:3105": refused("Invalid type_id", record(4, ("x", 0, 0))),
    "btf_struct_check_meta:3112": refused("Invalid member bits_offset", of("union", "", 8, "x", 1, 8, vlen=1)),
    "btf_struct_check_meta:3122": refused("Invalid member bits_offset", record(8, ("x", 1, 32), ("y", 1, 0))),
    "btf_struct_check_meta:3128": refused("Member bits_offset exceeds its struct size", record(4, ("x", 1, 33))),
    "btf_enum_check_meta:3713": refused("meta_left:4 meta_needed:8", enum(("A", 0)), missing=4),
    "btf_enum_check_meta:3718": refused("Unexpected size", enum(("A", 0), size=3)),
    "btf_enum_check_meta:3725": refused("Invalid name", enum(("A", 0), name="1")),
    "btf_enum_check_meta:3734": refused("\tInvalid name_offset:99", enum((99, 0))),
    "btf_enum_check_meta:3741": refused("Invalid name", enum(("", 0))),
    "btf_enum64_check_meta:3821": refused("meta_left:8 meta_needed:12", enum(("A", 0, 0), kind="enum64"), missing=4),
    "btf_enum64_check_meta:3826": refused("Unexpected size", enum(("A", 0, 0), kind="enum64", size=16)),
    "btf_enum64_check_meta:3833": refused("Invalid name", enum(("A", 0, 0), kind="enum64", name="1")),
    "btf_enum64_check_meta:3842": refused("\tInvalid name_offset:99", enum((99, 0, 0), kind="enum64")),
    "btf_enum64_check_meta:3849": refused("Invalid name", enum(("", 0, 0), kind="enum64")),
    "btf_func_proto_check_meta:3917": refused("meta_left:4 meta_needed:8", proto(0, ("x", 1)), missing=4),
    "btf_func_proto_check_meta:3922": refused("Invalid name", proto(0, name="p")),
    "btf_func_proto_check_meta:3927": refused("Invalid btf_info kind_flag", proto(0, kflag=1)),
    "btf_func_check_meta:4001": refused("Invalid name", VOID, to("func", 1)),
    "btf_func_check_meta:4006": refused("Invalid func linkage", VOID, to("func", 1, "f", vlen=2)),
    "btf_func_check_meta:4011": refused("Invalid btf_info kind_flag", VOID, to("func", 1, "f", kflag=1)),
    "btf_var_check_meta:4054": refused("meta_left:0 meta_needed:4", VAR, missing=4),
    "btf_var_check_meta:4059": refused("vlen != 0", of("var", "v", 1, 0, vlen=1)),
    "btf_var_check_meta:4064": refused("Invalid btf_info kind_flag", of("var", "v", 1, 0, kflag=1)),
    "btf_var_check_meta:4070": refused("Invalid name", of("var", "", 1, 0)),
    "btf_var_check_meta:4076": refused("Invalid type_id", of("var", "v", 0, 0)),
    "btf_var_check_meta:4083": refused("Linkage not supported", of("var", "v", 1, 2)),
    "btf_datasec_check_meta:4120": refused("meta_left:8 meta_needed:12", section(4, (1, 0, 4)), missing=4),
    "btf_datasec_check_meta:4125": refused("size == 0", section(0)),
    "btf_datasec_check_meta:4130": refused("Invalid btf_info kind_flag", section(4, kflag=1)),
    "btf_datasec_check_meta:4136": refused("Invalid name", section(4, name=".data:x")),
    "btf_datasec_check_meta:4146": refused("Invalid type_id", section(4, (0, 0, 4))),
    "btf_datasec_check_meta:4152": refused("Invalid offset", section(4, (1, 4, 4))),
    "btf_datasec_check_meta:4158": refused("Invalid size", section(4, (1, 0, 0))),
    "btf_datasec_check_meta:4165": refused("Invalid offset+size", section(4, (1, 2, 4))),
    # The sum of offset and size has 32 bits, so that the first variable seems to end before it begins.
    "btf_datasec_check_meta:4174": refused(
        "Invalid btf_info size", section(-1, (1, 0xFFFFFFFE, 0xFFFFFFFE), (1, 0xFFFFFFFC, 16))
    ),
    "btf_float_check_meta:4265": refused("vlen != 0", of("float", "d", 8, vlen=1)),
    "btf_float_check_meta:4270": refused("Invalid btf_info kind_flag", of("float", "d", 8, kflag=1)),
    "btf_float_check_meta:4276": refused("Invalid type_size", of("float", "d", 3)),
    "btf_decl_tag_check_meta:4347": refused("meta_left:0 meta_needed:4", of("decl_tag", "t", 1, -1), missing=4),
    "btf_decl_tag_check_meta:4353": refused("Invalid value", of("decl_tag", "", 1, -1)),
    "btf_decl_tag_check_meta:4358": refused("vlen != 0", of("decl_tag", "t", 1, -1, vlen=1)),
    "btf_decl_tag_check_meta:4363": refused("Invalid btf_info kind_flag", of("decl_tag", "t", 1, -1, kflag=1)),
    "btf_decl_tag_check_meta:4369": refused("Invalid component_idx", of("decl_tag", "t", 1, -2)),
    # ---- what types refer to ----
    "env_stack_push:1766": refused(
        "Exceeded max resolving depth:32", *(to("ptr", number + 2) for number in range(33)), INT
    ),
    "env_stack_push:1770": refused("Loop detected", to("ptr", 1)),
    "btf_modifier_resolve:2527": refused("Invalid type_id", to("const", NO_TYPE)),
    "btf_modifier_resolve:2549": refused("Invalid type_id", to("ptr", 2), to("const", 3), to("func", 4, "f"), VOID),
    "btf_var_resolve:2569": refused("Invalid type_id", of("var", "v", NO_TYPE, 0)),
    "btf_var_resolve:2596": refused("Invalid type_id", FWD, VAR),
    "btf_ptr_resolve:2615": refused("Invalid type_id", to("ptr", NO_TYPE)),
    "btf_ptr_resolve:2652": refused("Invalid type_id", to("ptr", 2), to("func", 3, "f"), VOID),
    "btf_array_resolve:2878": refused("Invalid index", INT, array(1, NO_TYPE)),
    "btf_array_resolve:2889": refused("Invalid index", INT, to("ptr", 1), array(1, 2)),
    "btf_array_resolve:2899": refused("Invalid elem", INT, array(NO_TYPE)),
    "btf_array_resolve:2909": refused("Invalid elem", INT, FWD, to("const", 2), array(3)),
    "btf_array_resolve:2914": refused("Invalid array of int", INT, ODD, array(2)),
    "btf_array_resolve:2920": refused("Array size overflows U32_MAX", INT, array(1, 1, 1 << 30)),
    "btf_struct_resolve:3183": refused("Invalid member", FWD, record(4, ("f", 1, 0))),
    "btf_datasec_resolve:4195": refused("Not a VAR kind member", INT, section(4, (1, 0, 4))),
    "btf_datasec_resolve:4212": refused("Invalid size", INT, VAR, section(4, (2, 0, 2))),
    "btf_decl_tag_resolve:4390": refused("Invalid type_id", INT, of("decl_tag", "t", 1, -1)),
    "btf_decl_tag_resolve:4401": refused("Invalid component_idx", INT, VAR, of("decl_tag", "t", 2, 0)),
    "btf_decl_tag_resolve:4414": refused("Invalid component_idx", INT, record(4), of("decl_tag", "t", 2, 0)),
    "btf_func_proto_check:4458": refused("Invalid return type", proto(NO_TYPE)),
    "btf_func_proto_check:4463": refused("Invalid return type", INT, VAR, proto(2)),
    "btf_func_proto_check:4476": refused("Invalid return type", FWD, proto(1)),
    "btf_func_proto_check:4488": refused("Invalid arg#1", proto(0, ("x", 0))),
    "btf_func_proto_check:4502": refused("Invalid arg#1", proto(0, ("x", NO_TYPE))),
    "btf_func_proto_check:4508": refused("Invalid arg#1", INT, VAR, proto(0, ("x", 2))),
    "btf_func_proto_check:4516": refused("Invalid arg#1", INT, proto(0, ("1", 1))),
    "btf_func_proto_check:4529": refused("Invalid arg#1", FWD, proto(0, ("x", 1))),
    "btf_func_check:4550": refused("Invalid type_id", INT, to("func", 1, "f")),
    "btf_func_check:4558": refused("Invalid arg#1", INT, proto(0, ("", 1)), to("func", 2, "f")),
    # ---- members in their struct; with kind_flag the upper 8 bits of an offset are the size of a bitfield ----
    "btf_generic_check_kflag_member:2008": refused(
        "Invalid member bitfield_size", INT, to("ptr", 1), record(8, ("p", 2, 4 << 24), kflag=1)
    ),
    "btf_int_check_member:2047": refused(
        "bits_offset exceeds U32_MAX", integer(8, at=8), record(1 << 29, ("x", 1, 0xFFFFFFFF))
    ),
    "btf_int_check_member:2058": refused("nr_copy_bits exceeds 128", integer(128, 16), record(32, ("x", 1, 1))),
    "btf_int_check_member:2065": refused("Member exceeds struct_size", INT, record(4, ("x", 1, 8))),
    "btf_int_check_kflag_member:2085": refused("Invalid member base type", ODD, record(4, ("x", 1, 0), kflag=1)),
    "btf_int_check_kflag_member:2099": refused("Invalid member offset", INT, record(8, ("x", 1, 1), kflag=1)),
    "btf_int_check_kflag_member:2106": refused(
        "Invalid member bitfield_size", INT, record(8, ("x", 1, 33 << 24), kflag=1)
    ),
    "btf_int_check_kflag_member:2114": refused(
        "nr_copy_bits exceeds 128", integer(128, 16), record(32, ("x", 1, 128 << 24 | 1), kflag=1)
    ),
    "btf_int_check_kflag_member:2121": refused("Member exceeds struct_size", INT, record(4, ("x", 1, 8), kflag=1)),
    "btf_modifier_check_member:2406": refused("Invalid member", FWD, to("const", 1), record(8, ("m", 2, 0))),
    "btf_modifier_check_kflag_member:2431": refused(
        "Invalid member", FWD, to("const", 1), record(8, ("m", 2, 0), kflag=1)
    ),
    "btf_ptr_check_member:2456": refused("Member is not byte aligned", to("ptr", 0), record(16, ("p", 1, 1))),
    "btf_ptr_check_member:2462": refused("Member exceeds struct_size", to("ptr", 0), record(4, ("p", 1, 0))),
    "btf_array_check_member:2794": refused("Member is not byte aligned", INT, array(1), record(8, ("a", 2, 1))),
    "btf_array_check_member:2804": refused("Member exceeds struct_size", INT, array(1), record(4, ("a", 2, 8))),
    "btf_struct_check_member:3043": refused("Member is not byte aligned", record(4), record(8, ("s", 1, 1))),
    "btf_struct_check_member:3051": refused("Member exceeds struct_size", record(4), record(4, ("s", 1, 8))),
    "btf_enum_check_member:3647": refused("Member is not byte aligned", enum(("A", 0)), record(8, ("e", 1, 1))),
    "btf_enum_check_member:3655": refused("Member exceeds struct_size", enum(("A", 0)), record(4, ("e", 1, 8))),
    "btf_enum_check_kflag_member:3675": refused(
        "Member is not byte aligned", enum(("A", 0)), record(8, ("e", 1, 1), kflag=1)
    ),
    "btf_enum_check_kflag_member:3682": refused(
        "Invalid member bitfield_size", enum(("A", 0)), record(8, ("e", 1, 33 << 24), kflag=1)
    ),
    "btf_enum_check_kflag_member:3690": refused(
        "Member exceeds struct_size", enum(("A", 0)), record(4, ("e", 1, 8), kflag=1)
    ),
    "btf_float_check_member:4305": refused(
        "Member is not properly aligned", of("float", "d", 8), record(16, ("d", 1, 32))
    ),
    "btf_float_check_member:4313": refused("Member exceeds struct_size", of("float", "d", 8), record(8, ("d", 1, 64))),
    # ---- by descriptor ----
    "btf_get_by_fd:6970": lambda w: w.map(btf_fd=NO_FD, btf_key_type_id=1, btf_value_type_id=1),
    "btf_get_by_fd:6974": lambda w: w.map(btf_fd=w.map(), btf_key_type_id=1, btf_value_type_id=1),
    "btf_get_info_by_fd:7002": lambda w: w.info(w.btf(), info=NOWHERE, info_len=32),
    "btf_get_info_by_fd:7008": kernel_btf(btf=NOWHERE, size=1),
    "btf_get_info_by_fd:7016": kernel_btf(name=NOWHERE),
    "btf_get_info_by_fd:7024": kernel_btf(name=NOWHERE, len=64),
    "btf_get_info_by_fd:7029": kernel_btf(name=NOWHERE, len=3),
    "btf_get_info_by_fd:7031": kernel_btf(name=before_a_hole(2), len=3),
    "btf_get_info_by_fd:7039": lambda w: w.info(w.btf(), info=read_only(), info_len=32),
    # ---- what programs want to know of the kernel's structs ----
    "bpf_core_apply:8030": relocated("relo #0: bad type id 99", 99),
    "bpf_core_find_cands:7944": relocated("target candidate search failed for 2", 2),
    "btf_struct_walk:5645": walked("access beyond struct bpf_iter_meta at off 24 size 8", (LONG, 0), (LONG, 24)),
    "btf_struct_walk:5789": walked("cannot access ptr member seq", (LONG, 0), (WORD, 0)),
    "btf_struct_walk:5822": walked("access beyond the end of member session_id", (LONG, 0), (LONG, 12)),
    "btf_struct_walk:5828": walked("struct seq_file doesn't have field at offset", (LONG, 0), (LONG, 0), (WORD, 100)),
}
