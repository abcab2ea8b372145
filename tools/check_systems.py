"""Find out on which Linux systems all of requirements/runtime.txt installs from wheels; write README's table of them.

    python tools/check_systems.py    asks the package index by `uv pip compile`, once for each Python, machine and glibc

`resolved` means that there is a wheel for every package; nothing is installed or run. The sizes are those that the
index states. `FROM_SOURCE` has no wheels anywhere; it is pure Python and needs no compiler.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import marked

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements/runtime.txt"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
#: Releases of glibc that uv knows as platforms, oldest first.
GLIBC = ("2.17", "2.28", *(f"2.{minor}" for minor in range(31, 41)))
FROM_SOURCE = "connection-pool"
#: Where the test suite has been run.
TESTED = {("3.11", "x86_64")}


def resolve(python: str, machine: str, glibc: str) -> dict | str:
    """Return the lock (PEP 751) of the requirements on a system, or uv's reason why there is none."""
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "uv", "pip", "compile", REQUIREMENTS, "--format", "pylock.toml"),
            *("--only-binary", ":all:", "--no-binary", FROM_SOURCE, "--no-header", "--quiet"),
            *("--python-version", python, "--python-platform", f"{machine}-manylinux_{glibc.replace('.', '_')}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return tomllib.loads(done.stdout)
    if "No solution found" not in done.stderr:
        raise SystemExit(done.stderr)  # no network, for example, which says nothing about wheels
    return done.stderr


def download_gb(lock: dict) -> float:
    """Return the size of what is downloaded, in GB; of several files of a package the largest counts."""
    files = ([package["sdist"]] if "sdist" in package else package["wheels"] for package in lock["packages"])
    return sum(max(file["size"] for file in each) for each in files) / 1e9


def culprit(reason: str) -> str:
    """Return the package for which uv found no wheel."""
    found = re.search(r"Because ([\w.-]+)==\S+ has no", reason)
    return found[1] if found else "several packages"


def row(python: str, machine: str) -> list[str]:
    """Return a system's cells: the oldest glibc with wheels for everything, and what an older one lacks."""
    lacks = ""
    for glibc in GLIBC:
        found = resolve(python, machine, glibc)
        print(python, machine, "glibc", glibc, "no" if isinstance(found, str) else "resolved", flush=True)
        if isinstance(found, str):
            lacks = culprit(found)
            continue
        state = "tested" if (python, machine) in TESTED else "resolved"
        needs = f"{glibc} or newer (`{lacks}`)" if lacks else f"{glibc} or newer"
        return [python, machine.replace("_", "-"), needs, f"{download_gb(found):.1f} GB", state]
    return [python, machine.replace("_", "-"), "-", "-", f"no wheel of `{lacks}`"]


def main() -> None:
    """Resolve every system and write the table."""
    cells = [row(python, machine) for machine, python in itertools.product(MACHINES, PYTHONS)]
    heads = ["Python", "Linux on", "glibc (set by)", "download", "state"]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *cells))
    marked.write(ROOT / "README.md", "systems", table)


if __name__ == "__main__":
    main()
