"""What the stages of two checkouts take: the embedded default from scratch in a fresh copy of each, by turns.

    python benchmarks/compare_walls.py OLD NEW [ROUNDS] [-- SNAKEMAKE'S ARGUMENTS]

OLD and NEW are folders of checkouts, such as one made by `git worktree`; both run with this interpreter's own
Snakemake and libraries. What is compared is the sum of `wall_s` over all records that a run leaves: the time that
Snakemake takes for itself is left out. Which of the two goes first changes with every round. Paths in Snakemake's
arguments count from the folder of the copy. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from project import copy_of_project, recorded_seconds


def wall_of_run(checkout: Path, arguments: list[str]) -> float:
    """Return the seconds that all stages took in a run from scratch.

    Raises:
        SystemExit: the run failed; the text ends with what Snakemake said.
    """
    # A package that the caller made importable must not stand in for the checkout's own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # The target before the arguments: some of Snakemake's options take all words that follow.
    command = [sys.executable, "-m", "snakemake", "--cores", "8", "results/report.md", *arguments]
    with tempfile.TemporaryDirectory() as name:
        folder = copy_of_project(checkout, Path(name) / "project")
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{checkout}: the run failed:\n{done.stderr[-4000:]}")
        return recorded_seconds(folder)


def main() -> None:
    """Run both by turns and print the sums, their ratio in each round, and its median."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="checkout to compare with")
    parser.add_argument("new", type=Path, help="checkout to compare")
    parser.add_argument("rounds", type=int, nargs="?", default=3, help="runs of each (default: 3)")
    chosen = parser.parse_args(words[:cut])
    ratios = []
    for number in range(1, chosen.rounds + 1):
        walls = {}
        for name in ("old", "new") if number % 2 else ("new", "old"):
            walls[name] = wall_of_run(getattr(chosen, name), words[cut + 1 :])
        old, new = walls["old"], walls["new"]
        ratios.append(new / old)
        print(f"round {number}: old {old:.2f} s, new {new:.2f} s, new/old {new / old:.4f}", flush=True)
    print(f"median new/old: {statistics.median(ratios):.4f}")


if __name__ == "__main__":
    main()
