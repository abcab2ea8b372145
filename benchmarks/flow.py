"""What the workflow itself costs: a run with nothing to do, planning many cells, and what surrounds the rules' work."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from artifacts import ROOT
from pairs import figure, seconds
from project import copy_of_project, recorded_seconds

ROUNDS = 3
SNAKEMAKE = (sys.executable, "-m", "snakemake", "--cores", "8")
# 1 model x 4 engines x 5 precisions x 10 batch sizes.
CELLS_200 = {
    "engines": ["openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"],
    "precisions": ["fp32", "tf32", "fp16", "bf16", "int8"],
    "batch_sizes": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
}


def run(folder: Path, *arguments: str) -> float:
    """Run Snakemake in a folder and return its wall time in seconds."""
    command = [*SNAKEMAKE, *arguments]
    return seconds(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))


def measure() -> dict[str, Any]:
    """Return `overhead_s` of a main job from scratch, `noop_s` and `dryrun_200_s`."""
    with tempfile.TemporaryDirectory() as name:
        folder = copy_of_project(ROOT, Path(name) / "project")
        main_s = run(folder, "results/report.md")
        inside_s = recorded_seconds(folder)
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
