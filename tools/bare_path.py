"""Fill a folder with the programs that the two commands of README.md may need, and print it.

    PATH=$(python3 tools/bare_path.py FOLDER) make test

What runs with that path alone needs nothing else. Here is the one list of what a machine has to have; README.md names
its groups, and a test compares them.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from check_platform import NEWEST, OLDEST

PYTHON = "python3"
# What to install -> its programs, as far as they are called.
PROMISED = {
    f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}": (PYTHON,),
    "make": ("make",),
    "a POSIX shell": ("sh",),
    "coreutils": (
        "basename",
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "dirname",
        "env",
        "expr",
        "head",
        "id",
        "ln",
        "ls",
        "mkdir",
        "mktemp",
        "mv",
        "nproc",
        "pwd",
        "readlink",
        "rm",
        "rmdir",
        "sort",
        "tail",
        "tee",
        "touch",
        "tr",
        "true",
        "uname",
        "uniq",
        "wc",
    ),
    "git": ("git",),
}


def fill(folder: Path) -> None:
    """Put the promised programs into a folder, which may not be there yet.

    Raises:
        SystemExit: a program is missing, or the folder is not empty; the text says which.
    """
    programs = {}
    for group, names in PROMISED.items():
        for name in names:
            found = shutil.which(name)
            if found is None:
                raise SystemExit(f"{name}: not found on the path; install {group}")
            programs[name] = Path(found).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder}: not empty; name a new folder, so that nothing else is on the path")
    for name, program in programs.items():
        if name != PYTHON:
            (folder / name).symlink_to(program)
    # The interpreter itself: `python3` may be a script of a version manager, which needs bash. And no link to it, since
    # a virtual environment would take that for its Python, and outlive it.
    interpreter = shlex.quote(str(Path(sys.executable).resolve()))
    (folder / PYTHON).write_text(f'#!/bin/sh\nexec {interpreter} "$@"\n')
    (folder / PYTHON).chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python3 tools/bare_path.py FOLDER")
    fill(Path(sys.argv[1]).absolute())
    print(Path(sys.argv[1]).absolute())
