"""How much memory of the host a timed run takes at its peak."""

from __future__ import annotations

import re
from pathlib import Path


def forget_peak() -> None:
    """Start this process's peak of resident memory anew (a forked child inherits its parent's)."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): "5" resets the peak to the current size


def peak_resident_bytes() -> int:
    """Return the peak of this process's resident memory since it was started or last forgotten."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
