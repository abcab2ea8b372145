# ruff: noqa: UP031 - runs on any Python, so that an old one gets a line instead of a syntax error
"""Say in one line what `make report` and `make test` cannot run on. Runs on any Python, so no new syntax here."""

import platform
import sys

SYSTEM = "Linux"
MACHINES = ("x86_64", "aarch64")
OLDEST, NEWEST = (3, 11), (3, 13)


def complaint(system, machine, version):
    """Return what is wrong with a system, a processor and the version of a Python, as one line; None if nothing is."""
    found = "%d.%d" % tuple(version[:2])
    if system != SYSTEM:
        wrong = "needs Linux (found %s)" % (system or "an unknown system")
    elif machine not in MACHINES:
        wrong = "needs a processor of x86-64 or aarch64 (found %s)" % (machine or "an unknown one")
    elif not OLDEST <= tuple(version[:2]) <= NEWEST:
        wrong = "needs Python %d.%d to %d.%d (found %s); name one by `make PYTHON=...`" % (OLDEST + NEWEST + (found,))
    else:
        return None
    return 'stagebench: %s; see README.md, "Systems"' % wrong


if __name__ == "__main__":
    # A string goes to stderr, and the exit status is 1.
    sys.exit(complaint(platform.system(), platform.machine(), sys.version_info))
