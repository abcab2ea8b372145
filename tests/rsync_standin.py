"""What the stand-in for a cluster has in place of rsync, so that the tests need no such program.

    python tests/rsync_standin.py --recursive --times --copy-links SOURCE TARGET

Snakemake's storage plugin for file systems calls rsync in this one way; everything else is refused. A source that ends
with a slash is a folder whose contents are copied.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

OPTIONS = ["--recursive", "--times", "--copy-links"]


def main() -> None:
    """Copy a file, or what is in a folder."""
    *options, source, target = sys.argv[1:]
    if options != OPTIONS or ":" in source + target:
        raise SystemExit(f"{' '.join(sys.argv)}: the stand-in for rsync knows {' '.join(OPTIONS)} and local files only")
    if not Path(source).exists():
        raise SystemExit(f"{source}: no such file or folder")
    # Both follow links, and keep the times.
    if source.endswith("/"):
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    main()
