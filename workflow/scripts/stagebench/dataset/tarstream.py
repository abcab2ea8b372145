"""A strict reader of tar archives that hold images: regular files only, and of those only their headers.

Python's `tarfile` spends more time on a small member than the system does on writing it, and accepts far more than a
data set needs. This reader takes USTAR and GNU archives with pax headers, and refuses what could write outside its
folder.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stagebench.errors import StagebenchError

_BLOCK = 512
_END = bytes(_BLOCK)
# The largest files of ImageNet are some 15 MB; what is far larger is no image of such a data set.
MAX_MEMBER_BYTES = 256 << 20
_MAX_HEADER_BYTES = 1 << 20

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}


class Member(NamedTuple):
    """A regular file of an archive: its name, and the place of its contents in bytes."""

    name: str
    offset: int
    size: int


def members(archive: Path) -> Iterator[Member]:
    """Yield each regular file of an archive, in its order; folders are passed over.

    Raises:
        StagebenchError: the archive is truncated or damaged, or a member is a link, a device, too large, or has a
            name that leads outside its folder.
    """
    descriptor = os.open(archive, os.O_RDONLY)
    try:
        yield from _members(descriptor, os.fstat(descriptor).st_size, archive.as_posix())
    finally:
        os.close(descriptor)


def contents(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, contents) of each regular file of an archive; errors are those of `members`."""
    with archive.open("rb") as file:
        for member in members(archive):
            file.seek(member.offset)
            yield member.name, file.read(member.size)


def _members(descriptor: int, length: int, where: str) -> Iterator[Member]:
    overrides: dict[str, str] = {}
    position = 0
    while header := os.pread(descriptor, _BLOCK, position):
        if len(header) < _BLOCK:
            raise StagebenchError(f"{where}: ends in the middle of a header: the archive is truncated; fetch it again")
        if header == _END:
            return
        _check(header, where)
        kind = header[156:157]
        name = overrides.get("path") or _name(header)
        size = int(overrides["size"]) if "size" in overrides else _number(header[124:136], where)
        offset = position + _BLOCK
        position = offset + -(-size // _BLOCK) * _BLOCK
        if kind in (b"x", b"g", b"L"):
            overrides |= _extended(kind, os.pread(descriptor, min(size, _MAX_HEADER_BYTES), offset), size, where)
            continue
        overrides = {}
        _check_name(name, where)
        if kind == b"5":
            continue
        if kind not in (b"0", b"\0", b"7"):
            what = _KINDS.get(kind, f"of the unknown type {kind!r}")
            raise StagebenchError(f"{where}: the member {name} is {what}: refused, only files are extracted")
        if size > MAX_MEMBER_BYTES:
            raise StagebenchError(f"{where}: the member {name} has {size} bytes: refused, too large for an image")
        if offset + size > length:
            raise StagebenchError(f"{where}: ends in the middle of {name}: the archive is truncated; fetch it again")
        yield Member(name, offset, size)


def _extended(kind: bytes, data: bytes, size: int, where: str) -> dict[str, str]:
    """Return what an extended header says of the member after it; one for all members says nothing that is used."""
    if size > len(data):
        raise StagebenchError(f"{where}: an extended header of {size} bytes: the archive is damaged; fetch it again")
    if kind == b"L":
        return {"path": _text(data.rstrip(b"\0"))}
    return _pax(data, where) if kind == b"x" else {}


def _check(header: bytes, where: str) -> None:
    """Compare a header's checksum: the sum of its bytes with the checksum's own field taken as spaces.

    Adler-32's lower half is one more than the sum of all bytes modulo 65521, and far faster to have than the sum.
    """
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(header[148:156]) + 8 * 32
    if (total - _number(header[148:156], where)) % 65521:
        raise StagebenchError(f"{where}: not a tar archive, or damaged (a header's checksum is wrong); fetch it again")


def _number(field: bytes, where: str) -> int:
    if field[0] & 0x80:  # GNU's binary form, for sizes from 8 GiB
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise StagebenchError(
            f"{where}: not a tar archive, or damaged (a header has no number); fetch it again"
        ) from None


def _name(header: bytes) -> str:
    name = _text(header[:100].split(b"\0", 1)[0])
    prefix = _text(header[345:500].split(b"\0", 1)[0]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _pax(data: bytes, where: str) -> dict[str, str]:
    """Return the `path`, `linkpath` and `size` of a pax header: records of the form "length key=value\\n"."""
    found = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise StagebenchError(f"{where}: a pax header is damaged; fetch the archive again")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in (b"path", b"size"):
            found[key.decode()] = _text(value)
        data = data[int(length) :]
    if not found.get("size", "0").isdigit():
        raise StagebenchError(f"{where}: a pax header is damaged; fetch the archive again")
    return found


def _check_name(name: str, where: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or "\0" in name or not name:
        raise StagebenchError(f"{where}: the member {name!r} leads outside its folder: refused")
