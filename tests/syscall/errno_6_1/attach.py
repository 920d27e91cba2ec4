"""The calls that run into the checks of attach.tsv."""

from .world import NOWHERE, holds, returns

INGRESS, EGRESS, SYSCTL, DISSECTOR, LOOKUP = "cgroup_inet_ingress", "cgroup_inet_egress", "cgroup_sysctl", 17, 36
OVERRIDE, MULTI, REPLACE = 1, 2, 4
HOOKS = [f"socket_{call}" for call in ("accept", "bind", "connect", "create", "getpeername", "getsockname", "listen")]
HOOKS += ["file_open", "file_lock", "file_ioctl", "file_receive"]


def skb(w):
    return w.prog("cgroup_skb", returns(1))


def dissector(w):
    return w.prog("flow_dissector", returns(0))


def lookup(w):
    return w.prog("sk_lookup", returns(1), expected_attach_type=LOOKUP)


def kept(w, flags=0, count=1, **more):
    """A cgroup with programs attached by themselves."""
    fd = w.cgroup(**more)
    for _ in range(count):
        w.attach(fd, skb(w), INGRESS, flags)
    return fd


def stores(w):
    """A program with a storage at its cgroups."""
    return w.prog("cgroup_skb", holds(w.create("cgroup_storage", 8, 4, 0))[:16] + returns(1))


def update(w, link, prog, old=None):
    fields = {} if old is None else {"flags": REPLACE, "old_prog_fd": old}
    return w.bpf("LINK_UPDATE", link_fd=link, new_prog_fd=prog, **fields)


def gone(w, link):
    """The link, detached."""
    w.bpf("LINK_DETACH", link_fd=link)
    return link


def asked(w, target, at, frozen=168, **more):
    """PROG_QUERY with room for two programs."""
    return w.frozen("PROG_QUERY", frozen, target_fd=target, attach_type=at, prog_cnt=2, **more)


def dissects(w):
    return w.link_to(w.netns(), dissector(w), DISSECTOR)


CASES = {
    # ---- programs on cgroups ----
    "find_attach_entry:591": lambda w: [
        w.attach(fd, prog, INGRESS, MULTI) for fd, prog in [(w.cgroup(), skb(w))] for _ in range(2)
    ],
    "find_attach_entry:605": lambda w: w.attach(
        kept(w, MULTI), skb(w), INGRESS, MULTI | REPLACE, replace_bpf_fd=skb(w)
    ),
    "__cgroup_bpf_attach:644": lambda w: w.attach(w.cgroup(), skb(w), INGRESS, OVERRIDE | MULTI),
    "__cgroup_bpf_attach:659": lambda w: kept(w) and w.attach(w.cgroup("a/b"), skb(w), INGRESS),
    "__cgroup_bpf_attach:666": lambda w: w.attach(kept(w), skb(w), INGRESS, MULTI),
    "__cgroup_bpf_attach:669": lambda w: kept(w, MULTI, 65),
    "find_detach_entry:900": lambda w: w.detach(w.cgroup(), 0, INGRESS),
    "find_detach_entry:912": lambda w: w.detach(kept(w, MULTI), 0, INGRESS),
    "find_detach_entry:919": lambda w: w.detach(kept(w, MULTI), skb(w), INGRESS),
    "__cgroup_bpf_attach:654": lambda w: [
        w.attach(fd, w.lsm(hook, "lsm_cgroup"), "lsm_cgroup", MULTI) for fd in [w.cgroup()] for hook in HOOKS
    ],
    "__cgroup_bpf_detach:1006": lambda w: w.detach(w.cgroup(), 0, "lsm_mac"),
    # ---- their links ----
    "cgroup_bpf_link_attach:1321": lambda w: w.link_to(w.cgroup(), skb(w), INGRESS, flags=MULTI),
    "__cgroup_bpf_replace:846": lambda w: update(
        w, w.link_to(w.cgroup(), skb(w), INGRESS), w.prog("cgroup_device", returns(1))
    ),
    "__cgroup_bpf_replace:858": lambda w: update(w, w.link_to(w.cgroup(), stores(w), INGRESS), stores(w)),
    "cgroup_bpf_replace:877": lambda w: update(w, gone(w, w.link_to(w.cgroup(), skb(w), INGRESS)), skb(w)),
    "cgroup_bpf_replace:881": lambda w: update(w, w.link_to(w.cgroup(), skb(w), INGRESS), skb(w), skb(w)),
    # ---- their query ----
    "__cgroup_bpf_query:1074": lambda w: asked(w, kept(w), INGRESS, query_flags=1, prog_attach_flags=NOWHERE),
    "__cgroup_bpf_query:1079": lambda w: asked(w, kept(w), "lsm_cgroup", prog_ids=bytearray(8)),
    "__cgroup_bpf_query:1105": lambda w: asked(w, kept(w), INGRESS, 0),
    "__cgroup_bpf_query:1107": lambda w: asked(w, kept(w), INGRESS, 24),
    "__cgroup_bpf_query:1136": lambda w: asked(w, kept(w), INGRESS, prog_ids=NOWHERE),
    "__cgroup_bpf_query:1147": lambda w: asked(w, kept(w), INGRESS, prog_ids=bytearray(8), prog_attach_flags=NOWHERE),
    # ---- network namespaces ----
    "bpf_netns_link_update_prog:178": lambda w: update(w, dissects(w), dissector(w), dissector(w)),
    "bpf_netns_link_update_prog:180": lambda w: update(w, dissects(w), lookup(w)),
    "bpf_netns_link_update_prog:185": lambda w: update(w, gone(w, dissects(w)), dissector(w)),
    "__netns_bpf_prog_query:256": lambda w: asked(w, w.netns(), DISSECTOR, 0),
    "__netns_bpf_prog_query:258": lambda w: asked(w, w.netns(), DISSECTOR, 24),
    "netns_bpf_prog_query:274": lambda w: asked(w, w.netns(), DISSECTOR, query_flags=1),
    "netns_bpf_prog_attach:301": lambda w: w.attach(0, dissector(w), DISSECTOR, 1),
    "netns_bpf_prog_attach:312": lambda w: dissects(w) and w.attach(0, dissector(w), DISSECTOR),
    "netns_bpf_prog_attach:330": lambda w: [w.attach(0, prog, DISSECTOR) for prog in [dissector(w)] for _ in range(2)],
    "__netns_bpf_prog_detach:367": lambda w: dissects(w) and w.detach(0, dissector(w), DISSECTOR),
    "__netns_bpf_prog_detach:371": lambda w: w.detach(0, dissector(w), DISSECTOR),
    "netns_bpf_prog_detach:385": lambda w: w.detach(w.netns(), dissector(w), DISSECTOR),
    "netns_bpf_link_attach:428": lambda w: [dissects(w) for _ in range(2)],
    "netns_bpf_link_attach:433": lambda w: [w.attach(0, dissector(w), DISSECTOR), dissects(w)],
    "netns_bpf_link_create:482": lambda w: w.link_to(w.netns(), dissector(w), DISSECTOR, flags=1),
}
