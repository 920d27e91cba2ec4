"""What BCC's programs take from bcc.utils."""

from __future__ import annotations

import sys
from typing import Any


def printb(text: bytes, file: Any = None, nl: int = 1) -> None:
    """Prints bytes as they are; what is no UTF-8 is shown as question marks."""
    print(text.decode(errors="replace"), end="\n" if nl else "", file=file or sys.stdout, flush=True)
