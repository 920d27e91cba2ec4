"""The calls that run into the checks of inode.tsv."""

from .world import RDONLY

CASES = {
    # ---- pins ----
    "bpf_fd_probe_obj:92": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/a", bpf_fd=w.btf()),
    "bpf_lookup:380": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/a.b", bpf_fd=w.map()),
    "bpf_obj_do_pin:459": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/a", bpf_fd=w.map()),
    "bpf_inode_type:140": lambda w: w.bpf("OBJ_GET", pathname="/sys/fs/bpf"),
    "bpf_obj_get_user:550": lambda w: [
        w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/l", bpf_fd=w.link()),
        w.bpf("OBJ_GET", pathname="/sys/fs/bpf/l", file_flags=RDONLY),
    ],
    "bpffs_obj_open:324": lambda w: [
        w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/p", bpf_fd=w.prog()),
        w.task.open("/sys/fs/bpf/p"),
    ],
}
