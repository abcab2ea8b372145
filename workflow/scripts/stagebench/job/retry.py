"""Delete the records of unavailable and failed cells with their outputs, so that the next run tries them again.

Run as `make retry`. Records with the status "ok" or "unsupported" stay. The table and the reports go, too: Snakemake
makes a missing file only if something that needs it is missing as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stagebench.records.envelope import header
from stagebench.vocabulary import Status

FOLDERS = ("engines", "validation", "inference")
_AGAIN = frozenset({Status.UNAVAILABLE.value, Status.FAILED.value})


def forget(results: Path) -> list[Path]:
    """Delete those records below `results`, and what was made with them; return the records' paths, sorted."""
    found = [
        path
        for folder in FOLDERS
        for path in sorted((results / folder).rglob("batch*.json"))
        if header(path).status in _AGAIN
    ]
    for record in found:
        for file in record.parent.glob(f"{record.stem}.*"):
            file.unlink()
    if found:
        for report in (results / "table.csv", results / "report.md", *results.glob("precision/*.md")):
            report.unlink(missing_ok=True)
    return found


def main() -> None:
    """Delete below the folder that the command line names, by default results/, and say what was deleted."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    lines = [f"deleted {path} and its outputs" for path in forget(results)] or ["no cell is unavailable or failed"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
