"""The project against its peers, each pair by turns in one run: `make bench`.

Every part runs in a process of its own, so that no library's threads disturb another's figures. PARTS names the parts
to measure; the others' earlier figures stay in the summary.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import artifacts
from pairs import as_table

from stagebench.host import identity, lock
from stagebench.records.io import read_json, versions, write_json

SUMMARY = artifacts.ROOT / "results/bench/summary.json"
#: Modules of this folder with a `measure()`, in the order in which they run.
PARTS = ("decode", "feed", "cores", "whole", "mfu", "flow")
LIBRARIES = ("numpy", "openvino", "onnxruntime", "pillow", "simplejpeg", "snakemake", "torch", "torchvision")
_log = logging.getLogger("bench")


def measure_part(name: str) -> None:
    """Measure one part in this process and put its figures into the summary."""
    found = importlib.import_module(name).measure()
    write_json(SUMMARY, {**(read_json(SUMMARY) if SUMMARY.exists() else {}), **found})


def measure_all(names: list[str]) -> None:
    """Measure parts one after the other, with the machine to themselves, and print the summary."""
    artifacts.prepare()
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        _log.info("measuring: %s", name)
        command = [sys.executable, str(Path(__file__).resolve()), "--part", name]
        if name == "flow":  # its runs take the machine for themselves
            subprocess.run(command, cwd=artifacts.ROOT, check=True)
            continue
        with lock.machine():
            subprocess.run(command, cwd=artifacts.ROOT, check=True)
    summary: dict[str, Any] = read_json(SUMMARY)
    summary["machine"] = identity.describe(identity.identity())
    summary["versions"] = versions(*LIBRARIES)
    write_json(SUMMARY, summary)
    _log.info("%s\nwritten to %s", as_table(summary), SUMMARY.relative_to(artifacts.ROOT))


def main() -> None:
    """Measure all parts, those that PARTS names, or one part as a child of this program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="measure this part in this process")
    part = parser.parse_args().part
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if part:
        measure_part(part)
        return
    chosen = os.environ.get("PARTS", "").split() or list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise SystemExit(f"PARTS: unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    measure_all(chosen)


if __name__ == "__main__":
    main()
