"""What the workflow itself costs: a run with nothing to do, planning many cells, and what surrounds the rules' work."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from artifacts import ROOT
from pairs import figure, seconds

from stagebench import records

ROUNDS = 3
SNAKEMAKE = (sys.executable, "-m", "snakemake", "--cores", "8")
# 1 model x 4 engines x 5 precisions x 10 batch sizes.
CELLS_200 = {
    "engines": ["openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"],
    "precisions": ["fp32", "tf32", "fp16", "bf16", "int8"],
    "batch_sizes": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
}


def copy_of_project(target: Path) -> None:
    """Copy what a run needs, without its results."""
    for name in ("config", "profiles", "workflow"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", target)


def run(folder: Path, *arguments: str) -> float:
    """Run Snakemake in a folder and return its wall time in seconds."""
    command = [*SNAKEMAKE, *arguments]
    return seconds(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))


def in_process_seconds(folder: Path) -> float:
    """Return the sum of what all rules did by their own records."""
    paths = [*(folder / "results").rglob("*.json"), *(folder / "resources").rglob("*.json")]
    return sum(record["wall_s"] for record in map(records.read_json, paths) if "wall_s" in record)


def measure() -> dict[str, Any]:
    """Return `overhead_s` of a main job from scratch, `noop_s` and `dryrun_200_s`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        folder.mkdir()
        copy_of_project(folder)
        main_s = run(folder, "results/report.md")
        inside_s = in_process_seconds(folder)
        noop = [run(folder, "results/report.md") for _ in range(ROUNDS)]
        (folder / "many.yaml").write_text(yaml.safe_dump({"cases": CELLS_200}))
        dryrun = [run(folder, "results/report.md", "-n", "-q", "--configfile", "many.yaml") for _ in range(ROUNDS)]
    return {
        "main_s": figure([main_s], "s"),
        "in_process_s": figure([inside_s], "s"),
        "overhead_s": figure([main_s - inside_s], "s"),
        "noop_s": figure(noop, "s"),
        "dryrun_200_s": figure(dryrun, "s"),
    }
