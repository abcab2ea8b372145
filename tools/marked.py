"""Replace what a document holds between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""

from __future__ import annotations

import re
from pathlib import Path


def write(document: Path, name: str, text: str) -> None:
    """Write `text` between the two marks called `name` of `document`, which has to hold both."""
    old = document.read_text()
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    found = re.search(rf"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", old, flags=re.DOTALL)
    if found is None:
        raise SystemExit(f"{document}: the lines '{begin}' and '{end}' are missing; add them where the text belongs")
    document.write_text(f"{old[: found.start()]}\n{text.strip()}\n\n{old[found.end() :]}")
