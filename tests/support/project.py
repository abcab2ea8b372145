"""A copy of the project to run Snakemake in, with a config of a small network."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

SHELLS = ("bash", "dash", "sh")  # one of them starts a job's script
SMALL = {
    "cases": {
        "models": ["tiny"],
        "engines": ["onnxruntime", "openvino"],
        "precisions": ["fp32", "int8"],
        "batch_sizes": [4],
    },
    "models": {"tiny": {"architecture": "support.tiny.tiny_resnet", "weights": "demo", "dataset": "sample"}},
    "datasets": {"sample": {"images": 32}},
    "measurement": {"repeats": 1},
}


@dataclass
class Project:
    """A checkout with its config; `run` starts Snakemake in it."""

    folder: Path

    def command(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the project with its tests importable, and return it with its output."""
        paths = [str(self.folder / "tests"), *filter(None, [(environment or {}).get("PYTHONPATH")])]
        return subprocess.run(
            arguments,
            cwd=self.folder,
            env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on the small config."""
        return self.command(
            sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "small.yaml", **options
        )

    def planned(self, target: str = "results/report.md", *arguments: str, **options) -> dict[str, list[str]]:
        """Return what a run would do: rule -> the outputs that it would make anew."""
        done = self.run(target, "--summary", *arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        jobs: dict[str, list[str]] = {}
        for line in done.stdout.splitlines()[1:]:
            output, _, rule, _, _, plan = line.split("\t")
            if plan == "update pending":
                jobs.setdefault(rule, []).append(output)
        return jobs

    def table(self) -> list[dict[str, str]]:
        """Return the rows of table.csv."""
        with (self.folder / "results/table.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def configure(self, **changes) -> None:
        """Write the small config with top-level sections changed."""
        merged = {key: {**SMALL.get(key, {}), **changes.get(key, {})} for key in {**SMALL, **changes}}
        (self.folder / "small.yaml").write_text(yaml.safe_dump(merged))


def copy_of_repository(repository: Path, target: Path) -> None:
    """Copy what git tracks or would track, as it stands."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (repository / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, target / name)


def copy_of_finished(finished: Project, folder: Path) -> Project:
    """Copy a project with everything that its run left, time stamps included."""
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Project(folder)


def until(condition: Callable[[], Any], running: subprocess.Popen[Any] | None = None, seconds: float = 120) -> Any:
    """Wait for a condition, as long as a process runs if there is one; return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert running is None or running.poll() is None, "it ended before the moment came"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.001)
    return value


def job_of(snakemake: subprocess.Popen[Any], rule: str) -> psutil.Process | None:
    """The process that runs a rule's script; None while there is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(snakemake.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(word.endswith(f".{rule}.py") for word in child.cmdline()) and child.name() not in SHELLS:
                    return child
    return None
