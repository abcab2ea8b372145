"""Copies of a checkout to run Snakemake in, and what such a run took by its own records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def copy_of_project(checkout: Path, target: Path) -> Path:
    """Copy what a run needs of a checkout, without its results, into the new folder `target`, and return that."""
    for name in ("config", "profiles", "workflow"):
        shutil.copytree(checkout / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(checkout / "Snakefile", target)
    return target


def recorded_seconds(folder: Path) -> float:
    """Return the sum of what all stages took that a run in `folder` left records of."""
    files = [file for name in ("results", "resources") for file in (folder / name).rglob("*.json")]
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sum(float(record["wall_s"]) for record in records if "wall_s" in record)
