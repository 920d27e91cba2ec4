"""The simulator against the live kernel of this machine: ./dev agree [--long] [--seed N] [--only NUMBER]

The same bytes of union bpf_attr go to both. Exit status: 0 when nothing disagrees but what known.py lists, 1 when
something does, 77 when this machine's kernel cannot be asked.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../support")]

import attach  # noqa: E402
import commands  # noqa: E402
import creation  # noqa: E402
import edges  # noqa: E402
import fields  # noqa: E402
import iterators  # noqa: E402
import known  # noqa: E402
import lifetimes  # noqa: E402
import network  # noqa: E402
import objects  # noqa: E402
import pair  # noqa: E402
import prog_arrays  # noqa: E402
import programs  # noqa: E402
import sandbox  # noqa: E402
import storages  # noqa: E402
import wire  # noqa: E402

WRITTEN = (
    *commands.WRITTEN,
    *edges.WRITTEN,
    *creation.CASES,
    *storages.CASES,
    *objects.WRITTEN,
    *fields.WRITTEN,
    *prog_arrays.CASES,
)
SHOWN = 5  # disagreements of a part that are shown in full


class Report:
    """Counts what was compared, and keeps the disagreements."""

    def __init__(self, part):
        self.part, self.began, self.ended = part, time.monotonic(), None
        self.counts, self.kinds, self.excused, self.shown = Counter(), Counter(), Counter(), []

    def seconds(self):
        return (self.ended or time.monotonic()) - self.began

    def disagree(self, kind, words, detail):
        """detail: a function that gives the text to show."""
        why = known.reason(self.part, words)
        if why:
            self.excused[why] += 1
            return
        self.kinds[kind] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(detail())

    def __str__(self):
        counts = ", ".join(f"{number} {what}" for what, number in self.counts.items())
        took = f"{self.seconds():.1f} s ({self.seconds() / 60:.1f} minutes)"
        lines = [f"{self.part}: {counts}; {took}", f"  disagreements: {sum(self.kinds.values())}"]
        lines += [f"    {number} by {kind}" for kind, number in self.kinds.most_common()]
        lines += [f"    {number} known: {why}" for why, number in self.excused.most_common()]
        return "\n".join(lines + self.shown)


def one_program(report, tasks, buffers, seed, number):
    made = programs.make(seed, number)
    ours, theirs, kind = programs.compare(*tasks, made, buffers)
    report.counts["programs"] += 1
    report.counts["accepted" if theirs.verdict == "ok" else "refused"] += 1
    report.counts["run"] += theirs.retval != "not compared"
    if kind:
        words = f"{kind} | {ours.verdict} {ours.line} | {theirs.verdict} {theirs.line} | {programs.helpers(made.code)}"
        report.disagree(kind, words, lambda: show(number, made, ours, theirs, kind))
    return made, ours, theirs


def show(number, made, ours, theirs, kind):
    text = [f"\n--- program {number} (type {made.prog_type}): {kind}", programs.listing(made.code)]
    for who, answer in (("simulator", ours), ("live kernel", theirs)):
        text += [f"{who}: {answer.verdict}, retval {answer.retval}, log:", answer.log[-1500:]]
    return "\n".join(text)


def random_programs(sim, live, seed, count, seconds):
    report, buffers = Report("programs"), programs.buffers()
    for number in range(count):
        if report.seconds() > seconds:
            break
        one_program(report, (sim, live), buffers, seed, number)
    return report


def guarded_programs(kernel, live, seed, count, seconds):
    """Of a loader without CAP_PERFMON, who is told no address and whose speculation is guarded."""
    task = kernel.spawn("guarded")
    with wire.without_perfmon(task), wire.without_perfmon(live):
        report = random_programs(task, live, seed, count, seconds)
    report.part = "guarded programs"
    return report


def run_case(report, kernel, live, name, case):
    """Each case has a task, so that what one leaves behind is not met by the next."""
    task = kernel.spawn("agree")
    calls, differ = commands.compare(task, live, case)
    task.exit()
    tell(report, name, calls, differ)


def tell(report, name, calls, differ):
    report.counts["random sequences" if " " in name else "written cases"] += 1
    report.counts["calls"] += calls
    for before, ours, theirs in differ:
        words = f"{name} | {before} | {ours} | {theirs}"
        told = (f"\n--- {name}", f"  before: {before}", f"  simulator:   {ours}", f"  live kernel: {theirs}")
        report.disagree(name.split()[0], words, lambda told=told: "\n".join(told)[:4000])


def all_commands(kernel, live, seed, count, seconds):
    report = Report("commands")
    for case in WRITTEN:
        run_case(report, kernel, live, case.__name__, case)
    until = report.seconds() + seconds
    for number in range(count):
        if report.seconds() > until:
            break
        run_case(report, kernel, live, f"sequence {number}", commands.sequence(seed, number))
    return report


def network_commands(kernel, live, seed, count):
    """Maps of devices and sockets, in a network namespace that this makes."""
    report = Report("network")
    written = (*network.CASES, *iterators.CASES)
    cases = [*written, *(network.sequence(seed, number) for number in range(count))]
    names = [case.__name__ for case in written] + [f"network {number}" for number in range(count)]
    for name, (calls, differ) in zip(names, network.compare(kernel, live, cases), strict=True):
        tell(report, name, calls, differ)
    return report


def attachments(make_kernel, live, seed, count, seconds):
    """Attach, detach, query and links, each case in a cgroup and network namespace that it makes and leaves."""
    report = Report("attach")
    if why := sandbox.unavailable():
        raise PermissionError(why)
    random_cases = [(f"attach {n}", attach.sequence(seed, n)) for n in range(count)]
    random_cases += [(f"attach all {n}", attach.sequence_of_all(seed, n)) for n in range(2 * count)]
    for name, case in [(case.__name__, case) for case in attach.WRITTEN] + random_cases:
        if report.seconds() > seconds:
            break
        kernel = make_kernel()
        task = kernel.spawn("agree")
        ours = attach.transcript(task, sandbox.SimulatedBox(task), case)
        task.exit()
        tell(
            report,
            name,
            *commands.differences(ours, sandbox.Sandbox().run(lambda box, c=case: attach.transcript(live, box, c))),
        )
        if wrong := [*bpfsim_core().graph_disagreements(kernel), *kernel.leaks()]:
            report.disagree(name, f"{name} | left", lambda name=name, wrong=wrong: f"{name}: left behind: {wrong}")
    return report


def random_lives(make_kernel, seed, count, seconds):
    """Chunks of a state machine (lifetimes.py) until enough commands were compared; the live side may be refused."""
    report = Report("lifetimes")
    live, number = pair.LiveSide(wire.possible_cpus()), 0
    try:
        while report.counts["commands"] < count and report.seconds() < seconds:
            found = lifetimes.run_chunk(make_kernel, live, report, seed, number, shrink=False)
            if found:  # the live kernel frees late where its work queues are full, and then does not again
                print(f"seen, and now once more, made smaller:\n{found}", flush=True)
                found = lifetimes.run_chunk(make_kernel, live, report, seed, number)
                report.counts["seen once, not again"] += not found
            number += 1
            if found:
                report.disagree("lifetimes", "", lambda found=found: found)
    finally:
        live.stop()
    report.counts["chunks"] = number
    return report


def bpfsim_core():
    from bpfsim import _core

    return _core


def like_this_one():
    """A simulated machine with as many CPUs as this one."""
    import bpfsim

    return bpfsim.Kernel(cpus=wire.possible_cpus())


def sides():
    """(a simulated machine like this one, a task on the live kernel); PermissionError where that is not allowed."""
    import bpfsim

    live = bpfsim.LiveKernel()
    return like_this_one(), live.spawn("agree"), live.release


def main():
    parser = argparse.ArgumentParser(prog="./dev agree", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--long",
        action="store_true",
        help="100,000 programs, 5,000 sequences and 200,000 lifetime commands, however long it takes",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random part (default 1)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one random program, in full")
    args = parser.parse_args()
    try:
        kernel, live, release = sides()
    except (PermissionError, OSError) as error:
        print(f"the live kernel cannot be asked: {error}")
        return 77
    wire.stay_on_one_cpu()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that cgroups are removed all the same
    print(f"simulator against Linux {release}, seed {args.seed}")
    if args.only is not None:
        made, ours, theirs = one_program(
            Report("programs"), (kernel.spawn("p"), live), programs.buffers(), args.seed, args.only
        )
        print(show(args.only, made, ours, theirs, "asked for"))
        return 0
    endless = float("inf")
    count, sequences, lives, seconds = (100_000, 5_000, 200_000, endless) if args.long else (25_000, 500, 20_000, 9)
    parts = (
        lambda: random_programs(kernel.spawn("programs"), live, args.seed, count, seconds),
        lambda: guarded_programs(kernel, live, args.seed, count // 4, seconds / 3),
        lambda: all_commands(kernel, live, args.seed, sequences, seconds),
        lambda: network_commands(kernel, live, args.seed, sequences // 5),
        lambda: attachments(like_this_one, live, args.seed, sequences // 10, seconds),
        lambda: random_lives(like_this_one, args.seed, lives, seconds),
    )
    reports = []
    for part in parts:
        try:
            reports.append(part())
            reports[-1].ended = time.monotonic()
            print(reports[-1], flush=True)
        except PermissionError as error:
            print(f"a part is not compared, since a namespace or cgroup of its own is refused: {error}")
    return 1 if any(report.kinds for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
