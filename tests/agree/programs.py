"""Random programs: what the verifier says of them, and what they return, on the simulator and on the live kernel.

A program is made from its seed and number alone, so that one can be made again. Most are valid; a share uses registers
or stack that were never written, odd offsets, jumps to anywhere, or bytes of chance. ``Made.varies`` marks the ones
whose result may differ from run to run by their nature (they turn an address into a number, or read stack that nothing
wrote): of these only the verdict and the log are compared.
"""

import random
import struct
from dataclasses import dataclass, field

import wire

PACKET = random.Random(1).randbytes(64)
SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
EDGES = (0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF)
EDGES64 = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
ALU = (0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0, 0xB0, 0xC0)  # add ... arsh, without neg and end
SHIFTS = (0x60, 0x70, 0xC0)
DIVISIONS = (0x30, 0x90)
JUMPS = (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0)
ATOMICS = (0x00, 0x40, 0x50, 0xA0, 0x01, 0x41, 0x51, 0xA1, 0xE1, 0xF1)


def insn(code, dst=0, src=0, off=0, imm=0):
    off = (off + 0x8000) % 0x10000 - 0x8000
    imm = (imm + 0x80000000) % (1 << 32) - 0x80000000
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


@dataclass
class Made:
    """One program; ``items`` are its instructions while it is made, a jump standing as (code, dst, src, imm, step)."""

    prog_type: int
    varies: bool = False
    items: list = field(default_factory=list)
    code: bytes = b""


class Maker:
    """Makes one program, step by step, and keeps what is known at this point of the straight line.

    A step is one or more items; jumps go to the first item of a step.
    """

    def __init__(self, rng):
        self.rng = rng
        self.made = Made(wire.XDP if rng.random() < 0.2 else wire.SOCKET_FILTER)
        self.numbers = set()  # registers that hold numbers on every path
        self.pointers = {1, 10}
        self.written = set()  # stack bytes written on every path, as offsets from r10
        self.steps = []  # where each step begins in made.items
        self.skipped_to = 0  # steps below this one may be jumped over
        self.careless = rng.choice((0.0, 0.0, 0.01, 0.05))  # how often a rule is not kept

    def emit(self, *args, **kw):
        self.made.items.append(insn(*args, **kw))

    def step(self):
        self.steps.append(len(self.made.items))

    def certain(self):
        """Is this step on every path?"""
        return len(self.steps) > self.skipped_to

    def slip(self):
        return self.rng.random() < self.careless

    def imm(self):
        rng = self.rng
        pick = rng.random()
        if pick < 0.5:
            return rng.choice(EDGES) * rng.choice((1, 1, -1))
        return rng.randint(-20, 40) if pick < 0.8 else rng.randint(-(1 << 31), (1 << 31) - 1)

    def source(self):
        """A register to read: one that holds a number, if nothing slips."""
        if self.slip() or not self.numbers:
            reg = self.rng.randint(0, 10)
            self.made.varies |= reg in self.pointers
            return reg
        return self.rng.choice(sorted(self.numbers))

    def target(self, fresh):
        """A register to write; one that an operation reads as well when it is not fresh."""
        if self.slip():
            reg = self.rng.randint(0, 10)
            self.made.varies |= reg in self.pointers
            return reg
        if not fresh:
            return self.source()
        return self.rng.choice([r for r in range(10) if r not in self.pointers])

    def wrote(self, reg):
        if self.certain() and reg not in self.pointers:
            self.numbers.add(reg)

    # ---- items ----

    def alu(self):
        rng = self.rng
        cls, op = rng.choice((0x07, 0x07, 0x04)), rng.choice(ALU)
        by_reg = rng.random() < 0.5
        dst = self.target(op == 0xB0)
        off, imm = 0, 0
        if by_reg:
            src = self.source()
            if op == 0xB0 and rng.random() < 0.3:
                off = rng.choice((8, 16, 32) if cls == 0x07 else (8, 16))
        else:
            src, imm = 0, self.imm()
            if op in SHIFTS and not self.slip():
                imm %= 64 if cls == 0x07 else 32
            if op in DIVISIONS and not imm and not self.slip():
                imm = 3
        if op in DIVISIONS and rng.random() < 0.4:
            off = 1
        if self.slip():
            off = rng.choice((1, 2, 8, 24, 32, -1))
        self.emit(cls | op | (8 if by_reg else 0), dst, src, off, imm)
        self.wrote(dst)

    def unary(self):
        rng = self.rng
        dst = self.target(False)
        if rng.random() < 0.4:
            self.emit(rng.choice((0x87, 0x84)), dst, imm=1 if self.slip() else 0)
        else:
            width = rng.choice((16, 32, 64)) if not self.slip() else rng.choice((0, 8, 24, 128))
            self.emit(rng.choice((0xD4, 0xDC, 0xD7)), dst, imm=width)

    def ld_imm64(self):
        rng = self.rng
        value = rng.choice(EDGES64) if rng.random() < 0.6 else rng.getrandbits(64)
        dst, src = self.target(True), 0
        if self.slip():  # a map's fd or address, a BTF id, a function: nothing stands there
            src, value = rng.choice(((1, 9999), (2, 9999), (3, 999999), (4, 77), (5, 9999), (6, 3), (7, 0), (9, 0)))
        second = insn(rng.choice((0, 0x18, 5)) if self.slip() else 0, imm=value >> 32)
        self.made.items.append(insn(0x18, dst, src, 0, value) + second)
        self.wrote(dst)

    def slot(self, size):
        """An offset from r10: mostly aligned and inside."""
        rng = self.rng
        if self.slip():
            self.made.varies = True
            return rng.choice((0, 8, -1, -3, -7, -516, -520, -513, 600, rng.randint(-530, 10)))
        return -size * rng.randint(1, 24 // size if rng.random() < 0.8 else 512 // size)

    def base(self, off, value=None):
        """r10, or r9 as a copy of it some bytes below."""
        if self.rng.random() < 0.8 or 9 in self.pointers or value == 9:
            return 10, off
        below = self.rng.choice((8, 16, 64, 512))
        self.emit(0xBF, 9, 10)
        self.emit(0x07, 9, imm=-below)
        return 9, off + below

    def store(self):
        rng = self.rng
        size = rng.choice((1, 2, 4, 8, 8))
        off, value = self.slot(size), self.source()
        base, at = self.base(off, value)
        if rng.random() < 0.6:
            self.emit(0x63 & ~0x18 | SIZES[size], base, value, at)
        else:
            self.emit(0x62 & ~0x18 | SIZES[size], base, 0, at, self.imm())
        self.release(base)
        if self.certain():
            self.written.update(range(off, off + size))

    def load(self):
        rng = self.rng
        size = rng.choice((1, 2, 4, 8, 8))
        off = self.slot(size)
        if self.written and rng.random() < 0.9:
            off = rng.choice(sorted(self.written)) // size * size
        self.made.varies |= not self.written.issuperset(range(off, off + size))
        base, at = self.base(off)
        dst = self.target(True)
        mode = 0x80 if size < 8 and rng.random() < 0.3 else 0x60
        self.emit(mode | 0x01 | SIZES[size], dst, base, at)
        self.release(base)
        self.wrote(dst)

    def release(self, base):
        """r9 is a number again, so that no address is left in it."""
        if base == 9:
            self.emit(0xB7, 9, imm=self.rng.randint(0, 99))
            self.wrote(9)

    def atomic(self):
        rng = self.rng
        size = rng.choice((4, 8))
        off = self.slot(size)
        if not self.written.issuperset(range(off, off + size)):
            self.emit(0x62 & ~0x18 | SIZES[size], 10, 0, off, self.imm())
            if self.certain():
                self.written.update(range(off, off + size))
            else:
                self.made.varies = True
        op = rng.choice(ATOMICS) if not self.slip() else rng.randint(0, 255)
        if op == 0xF1 and 0 not in self.numbers:
            op = 0xE1
        src = self.source()
        self.emit(0xC3 | SIZES[size], 10, src, off, op)

    def ctx(self):
        """A number that the verifier does not know."""
        rng = self.rng
        dst = self.target(True)
        if self.slip():
            self.made.varies = True
            self.emit(0x61 & ~0x18 | SIZES[rng.choice((1, 2, 4, 8))], dst, 1, rng.randint(-8, 200))
        elif self.made.prog_type == wire.XDP:
            self.emit(0x61, dst, 1, rng.choice((12, 16)))
        else:
            size, off = rng.choice(((4, 0), (4, 4), (4, 8), (4, 16), (4, 48), (4, 52), (2, 0), (1, 1), (1, 48), (2, 8)))
            self.emit(0x61 & ~0x18 | SIZES[size], dst, 1, off)
        self.wrote(dst)

    def jump(self):
        rng = self.rng
        goal = len(self.steps) + rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
        if rng.random() < 0.08:
            self.made.items.append((rng.choice((0x05, 0x05, 0x06)), 0, 0, 0, goal))
        else:
            op, cls = rng.choice(JUMPS), rng.choice((0x05, 0x05, 0x06))
            dst = self.source()
            if rng.random() < 0.4:
                self.made.items.append((op | cls | 8, dst, self.source(), 0, goal))
            else:
                self.made.items.append((op | cls, dst, 0, self.imm(), goal))
        self.skipped_to = max(self.skipped_to, goal)

    def packet(self):
        """XDP: r7 and r8 are the packet's ends, a byte or more is read behind a comparison."""
        rng = self.rng
        room, size = rng.choice((1, 8, 14, 34, 64, 100)), rng.choice((1, 2, 4, 8))
        self.emit(0x61, 7, 1, 0)
        self.emit(0x61, 8, 1, 4)
        self.pointers |= {7, 8}
        self.numbers -= {7, 8}
        dst = rng.choice((0, 2, 3))
        self.emit(0xB7, dst, imm=self.imm())
        self.emit(0xBF, 9, 7)
        self.emit(0x07, 9, imm=room)
        op = rng.choice((0x2D, 0x3D, 0x2D, 0xAD, 0xBD))
        self.emit(op, 9, 8, 1)
        self.emit(0x61 & ~0x18 | SIZES[size], dst, 7, rng.randint(0, max(room - size + self.slip() * 2, 0)))
        self.emit(0xB7, 9, imm=0)
        self.numbers |= {dst, 9}

    # ---- a program ----

    def prologue(self):
        rng = self.rng
        if self.made.prog_type == wire.XDP and rng.random() < 0.5:
            self.step()
            self.packet()
        for reg in rng.sample([0, 2, 3, 4, 5, 6, 7, 8, 9], rng.randint(1, 5)):
            if reg in self.pointers:
                continue
            self.step()
            if rng.random() < 0.4:
                off = rng.choice((12, 16)) if self.made.prog_type == wire.XDP else rng.choice((0, 4, 16, 48))
                self.emit(0x61, reg, 1, off)
            else:
                self.emit(0xB7, reg, imm=self.imm())
            self.numbers.add(reg)

    def program(self):
        rng = self.rng
        self.prologue()
        kinds = (self.alu, self.unary, self.ld_imm64, self.store, self.load, self.atomic, self.ctx, self.jump)
        weights = (30, 5, 6, 10, 10, 4, 5, 18)
        for kind in rng.choices(kinds, weights, k=rng.choice((0, 2, 4, 8, 12, 20, 30))):
            self.step()
            kind()
        self.step()
        if not self.slip():
            if rng.random() < 0.7:
                self.emit(0xBF, 0, self.source())
            elif 0 not in self.numbers:
                self.emit(0xB7, 0, imm=self.imm())
        if not self.slip():
            self.step()
            self.emit(0x95)
        self.link()
        if rng.random() < 0.04:
            self.mangle()
        return self.made

    def link(self):
        """Jumps get their offsets; one past the end goes to the last step."""
        items = self.made.items
        starts, at = [], 0
        for item in items:
            starts.append(at)
            at += len(item) // 8 if isinstance(item, bytes) else 1
        code = []
        for index, item in enumerate(items):
            if isinstance(item, tuple):
                op, dst, src, imm, goal = item
                off = starts[min(self.steps[min(goal, len(self.steps) - 1)], len(items) - 1)] - starts[index] - 1
                if self.rng.random() < self.careless / 4:
                    off = self.rng.choice((-1, 0, 1, 2, 3, 5, 8, 12))
                    self.made.varies = True
                code.append(insn(op, dst, src, 0, off) if op == 0x06 else insn(op, dst, src, off, imm))
            else:
                code.append(item)
        self.made.code = b"".join(code)

    def mangle(self):
        """Chance writes a byte or two; of what comes out, only the verdict and the log are compared."""
        code = bytearray(self.made.code)
        for _ in range(self.rng.randint(1, 2)):
            code[self.rng.randrange(len(code))] = self.rng.choice((self.rng.getrandbits(8), 0, 1, 0x10, 0x85, 0xFF))
        for at in range(0, len(code), 8):  # which descriptors are open differs between the sides
            if code[at] == 0x18 and code[at + 1] & 0xF0:
                code[at + 1] &= 0x0F
        self.made.code, self.made.varies = bytes(code), True


def make(seed, number):
    return Maker(random.Random(seed * 1_000_003 + number)).program()


def last_line(log):
    """The last line before "processed ..."; of a refusal before do_check, the last one there is."""
    lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
    return lines[-1] if lines else ""


@dataclass
class Answer:
    """What one side says of a program."""

    verdict: str
    line: str
    retval: str
    log: str


def buffers():
    return wire.Programs(PACKET)


def ask(task, programs, made):
    fd, log = programs.load(task, made.code, made.prog_type, log_level=2)
    retval = "not compared"
    if fd >= 0:
        if not made.varies:
            result, value = programs.run(task, fd)
            retval = f"{value:#x}" if result == 0 else wire.name(result)
        task.close(fd)
    return Answer("ok" if fd >= 0 else wire.name(fd), last_line(log), retval, log)


def compare(sim, live, made, programs):
    """(both answers, what differs): the first of verdict, last line, retval and the whole log that does, or None."""
    ours, theirs = ask(sim, programs, made), ask(live, programs, made)
    for kind in ("verdict", "line", "retval", "log"):
        if getattr(ours, kind) != getattr(theirs, kind):
            return ours, theirs, kind
    return ours, theirs, None


def helpers(code):
    """ "helpers 1,46": the numbers that the program's calls ask for."""
    calls = (struct.unpack_from("<BBhi", code, at) for at in range(0, len(code), 8))
    return "helpers " + ",".join(str(imm) for op, regs, _, imm in calls if op == 0x85 and regs < 0x10)


def listing(code):
    from bpfsim import _core

    lines = []
    for at in range(0, len(code), 8):
        raw = code[at : at + 8]
        two = code[at : at + 16] if raw[0] == 0x18 and at + 16 <= len(code) else raw
        try:
            text = _core.Program(two).listing[0]
        except Exception:
            text = "?"
        lines.append(f"{at // 8:4}: {raw.hex()}  {text}")
    return "\n".join(lines)
