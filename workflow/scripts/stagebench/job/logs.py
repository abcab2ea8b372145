"""Logging of a stage: to its log file, to a progress bar where there is a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
# tqdm's monitor is a thread that refreshes idle bars; a process with threads had better not fork, as stages do.
tqdm.monitor_interval = 0


def start(log: Path) -> None:
    """Send this process's log records to the file `log` (appended) and those of level WARNING to the console too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(log, mode="a", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_console = logging.StreamHandler(sys.stderr)
    to_console.setLevel(logging.WARNING)
    to_console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_console], force=True)


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` with a progress bar on a terminal; nothing is shown elsewhere."""
    yield from tqdm(items, desc=label, total=total, unit=unit, leave=False, disable=not sys.stderr.isatty())


@contextmanager
def progress_bar(label: str, total: int | None = None, unit: str = "it", **options: Any) -> Iterator[Any]:
    """Yield a bar whose `update(n)` is called as work is done; invisible where there is no terminal."""
    with tqdm(desc=label, total=total, unit=unit, leave=False, disable=not sys.stderr.isatty(), **options) as bar:
        yield bar
