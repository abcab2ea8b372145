"""The timing cache: what the builder learned about tactics, kept between builds for one device and library version.

It is a side file that no rule declares: builds work without it, and what they took from it is in the build record.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from pydantic import JsonValue

from stagebench.records.io import replacing

if TYPE_CHECKING:
    import tensorrt


def load(config: tensorrt.IBuilderConfig, path: Path | None) -> dict[str, JsonValue] | None:
    """Give the config the cache of a file, or an empty one; return its entry in the record, None without a cache.

    A file that the library refuses (another version, another device) is left out.
    """
    if path is None:
        return None
    data = path.read_bytes() if path.is_file() else b""
    for content in (data, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return {"path": path.as_posix(), "sha256_before": hashlib.sha256(content).hexdigest() if content else None}
    return None


def store(
    config: tensorrt.IBuilderConfig, path: Path | None, used: dict[str, JsonValue] | None
) -> dict[str, JsonValue] | None:
    """Add what the build has learned to the file's content and return the record's entry with its digest."""
    cache = config.get_timing_cache() if used is not None else None
    if path is None or used is None or cache is None:
        return used
    try:
        return {**used, "sha256_after": _keep(config, path, cache)}
    except OSError as error:  # the engine is built, and good without
        return {**used, "not_kept": str(error)}


def _keep(config: tensorrt.IBuilderConfig, path: Path, cache: tensorrt.ITimingCache) -> str:
    """Write a cache, with what other builds have put into its file meanwhile; return the digest of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if path.exists():
            others = config.create_timing_cache(path.read_bytes())
            if others is not None:
                cache.combine(others, ignore_mismatch=False)
        content = bytes(cache.serialize())
        with replacing(path) as part:
            part.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
