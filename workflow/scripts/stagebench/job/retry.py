"""Delete the records of unavailable and failed stages with their outputs, so that the next run tries them again.

Run as `make retry`. Records with the status "ok" or "unsupported" stay. The reports go, too: Snakemake makes a missing
file only if something that needs it is missing as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stagebench.errors import StagebenchError
from stagebench.records.envelope import header
from stagebench.records.io import remove
from stagebench.vocabulary import AGAIN

_REPORTS = ("table.csv", "report.md", "report.json", "stages.passed", "precision/*.md", "precision/*.json")


def forget(results: Path, resources: Path) -> list[Path]:
    """Delete those records below both folders, and what was made with them; return the records' paths, sorted."""
    places = [
        *((results / name).rglob("*.json") for name in ("devices", "models", "engines", "validation", "inference")),
        (resources / "weights").glob("*.json"),
    ]
    found = sorted(path for place in places for path in place if _is_again(path))
    for record in found:
        outputs = json.loads(record.read_text(encoding="utf-8"))["outputs"]
        for entry in outputs.values():
            remove(record.parent / Path(entry["path"]).name)
        record.unlink()
    if found:
        for pattern in _REPORTS:
            for file in results.glob(pattern):
                file.unlink()
    return found


def _is_again(path: Path) -> bool:
    try:
        return header(path).status in AGAIN
    except StagebenchError:  # a file that is no record
        return False


def main() -> None:
    """Delete below the folders that the command line names, and say what was deleted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"))
    parser.add_argument("resources", type=Path, nargs="?", default=Path("resources"))
    folders = parser.parse_args()
    found = forget(folders.results, folders.resources)
    lines = [f"deleted {path} and its outputs" for path in found] or ["no stage is unavailable or failed"]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
