"""What the house rules and README's tables both read: the files of sim/ and their opening lines."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Ground floor first. A folder may include those on lower floors; map, verifier and run never meet.
FLOORS = [
    {"uapi"},
    {"isa", "base"},
    {"trace"},
    {"object"},
    {"btf"},
    {"host"},
    {"map", "verifier", "run"},
    {"hook"},
    {"syscall"},
]
STATIONS = [name for floor in FLOORS for name in sorted(floor)] + ["loader"]
LOADER_SEES = {"uapi", "isa", "btf"}

OPENING = re.compile(r"// (Models: \S+|No kernel counterpart: \S)")


def may_include(station: str, other: str) -> bool:
    """Whether a file of one station may include a header of another."""
    if station == other:
        return True
    if station == "loader":
        return other in LOADER_SEES
    if other == "loader":
        return False
    level = {name: height for height, floor in enumerate(FLOORS) for name in floor}
    return level[other] < level[station]


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, or would take: what the rules are about."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *patterns]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return sorted(path for name in set(out.split("\0")) if name and (path := ROOT / name).is_file())


def sim_files() -> list[Path]:
    """The C++ files of the core."""
    return tracked("sim/*.cpp", "sim/*.h", "sim/*.def")


@dataclass
class Room:
    """A .h and .cpp of one name: what of the kernel it models, or why nothing, and its first sentence."""

    path: Path
    models: str
    says: str


def opening(text: str) -> tuple[str, str]:
    """What the file claims to model (its first line, or lines up to an empty one), and what it says first.

    That is its first sentence, or two where the first is a word or three.
    """
    comment = []
    for line in text.splitlines():
        if not line.startswith("//"):
            break
        comment.append(line.removeprefix("//").strip())
    end = comment.index("") if "" in comment[:4] else 1
    first = " ".join(comment[:end])
    paragraph = " ".join(" ".join(comment[end:]).split())
    says = re.split(r"(?<=[.:])\s", paragraph)[0]
    if len(says) < 30:
        says = " ".join(re.split(r"(?<=\.)\s", paragraph)[:2])
    return first, says.rstrip(".:")


def rooms() -> list[Room]:
    """Every room, ground floor first. Of header and source the source speaks for it, or says "See x.h"."""
    found: dict[Path, Room] = {}
    for path in sorted(sim_files(), key=lambda p: (p.suffix != ".cpp", p)):
        key = path.with_suffix("")
        if key in found:
            continue
        first, says = opening(path.read_text())
        if says.startswith("See "):
            says = opening(path.with_suffix(".h").read_text())[1]
        found[key] = Room(path.relative_to(ROOT), first, says)

    def order(room: Room) -> tuple[int, str]:
        station = room.path.parts[1] if len(room.path.parts) > 2 else ""
        return (STATIONS.index(station) if station in STATIONS else len(STATIONS), str(room.path))

    return sorted(found.values(), key=order)
