"""Delete the records of unavailable and failed cells with their outputs, so that the next run tries them again.

Run as `make retry`. Records of state "ok" and "unsupported" stay. The table and the reports go, too: Snakemake makes a
missing file anew only where something that is missing as well needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stagebench.records import read_record

RESULTS = Path("results")
FOLDERS = ("engines", "validation", "inference")
AGAIN = frozenset({"unavailable", "failed"})


def forget(results: Path) -> list[Path]:
    """Delete those records below `results`, and what was made with them; return the records' paths, sorted."""
    found = [
        path
        for folder in FOLDERS
        for path in sorted((results / folder).rglob("batch*.json"))
        if read_record(path)["status"] in AGAIN
    ]
    for record in found:
        for file in record.parent.glob(f"{record.stem}.*"):
            file.unlink()
    if found:
        for report in (results / "table.csv", results / "report.md", *results.glob("precision/*.md")):
            report.unlink(missing_ok=True)
    return found


def main() -> None:
    """Delete below results/ and say what was deleted."""
    found = forget(RESULTS)
    lines = [f"deleted {path} and its outputs" for path in found] or ["no cell is unavailable or failed"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
