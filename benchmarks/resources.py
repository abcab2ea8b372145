"""What each rule takes on the embedded default: the peak memory of its jobs, and the time of the longest.

Run as `make bench-resources`. The figures behind `mem_mb` and `runtime` in workflow/rules/*.smk are this table's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from project import copy_of_project

ROOT = Path(__file__).resolve().parent.parent
_PERIOD_S = 0.1
_SCRIPT = re.compile(r"\.snakemake/scripts/tmp\w+\.(\w+)\.py")


def tree_bytes(process: psutil.Process) -> int:
    """Return the memory of a process and its children; what they share counts once (proportional set size)."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def sample(run: subprocess.Popen[str]) -> dict[str, tuple[int, float]]:
    """Watch the scripts of a Snakemake run until it ends: rule -> (peak bytes, seconds of its longest job)."""
    found: dict[str, tuple[int, float]] = {}
    snakemake = psutil.Process(run.pid)
    while run.poll() is None:
        for process in snakemake.children(recursive=True):
            try:
                script = _SCRIPT.search(" ".join(process.cmdline()))
                if script is None or _SCRIPT.search(" ".join(process.parent().cmdline())):
                    continue
                peak, longest = found.get(script[1], (0, 0.0))
                age = time.time() - process.create_time()
                found[script[1]] = max(peak, tree_bytes(process)), max(longest, age)
            except (psutil.Error, AttributeError):  # it has just ended
                continue
        time.sleep(_PERIOD_S)
    return found


def main() -> None:
    """Run the embedded default once in a fresh folder and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = copy_of_project(ROOT, Path(name) / "project")
        arguments = [sys.executable, "-m", "snakemake", "--cores", "8", "results/report.md", *sys.argv[1:]]
        with (folder / "run.log").open("w") as log:
            run = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=subprocess.STDOUT, text=True)
            measured = sample(run)
        if run.returncode:
            sys.exit((folder / "run.log").read_text()[-4000:])
    sys.stdout.write("| rule | peak memory, MB | longest job, s |\n|---|---|---|\n")
    for rule, (peak, longest) in sorted(measured.items()):
        sys.stdout.write(f"| {rule} | {peak / 1e6:.0f} | {longest:.1f} |\n")


if __name__ == "__main__":
    main()
