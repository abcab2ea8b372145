"""From an address or a local path to a checked file."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stagebench.dataset import transfer
from stagebench.dataset.transfer import Digest, download, without_credentials
from stagebench.errors import StagebenchError
from stagebench.records.data import Archive, ArchiveRecord
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.io import part_of, replacing

_log = logging.getLogger(__name__)


def fetch(url: str, out: Path, *, algorithm: str, expected: str | None) -> Digest:
    """Bring the file at an address (https or file; http on this machine) to `out` and check its digest.

    A download that broke off resumes where it stopped, in this run and in the next one. A file with another digest is
    kept aside as `{out}.{algorithm}-{digest}`, where a run that expects that digest finds it.

    Args:
        algorithm: "md5" or "sha256".
        expected: hexadecimal digest; None for a file that is taken as it is.

    Raises:
        StagebenchError: the address, the server or the digest is wrong; the text says which, and what to do.
    """
    local = local_path(url)
    if local is not None:
        return copy(local, out, algorithm=algorithm, expected=expected)
    kept = _aside(out, algorithm, expected or "")
    if expected and kept.is_file():
        _log.info("%s has the digest that is expected now", kept)
        kept.replace(out)
        return Digest.of_file(algorithm, out)
    part = part_of(out)
    digest = download(url, part, algorithm=algorithm, resume_unmarked=expected is not None)
    transfer.forget(part)
    found = digest.hex()
    if expected is not None and found != expected:
        aside = _aside(out, algorithm, found)
        part.replace(aside)
        raise StagebenchError(
            f"{without_credentials(url)}: its {algorithm.upper()} is {found}, expected is {expected}; the file is kept "
            f"as {aside}: correct the digest or the address"
        )
    part.replace(out)
    return digest


def copy(source: Path, out: Path, *, algorithm: str, expected: str | None) -> Digest:
    """Copy a local file to `out` and check its digest; arguments and errors are those of `fetch`."""
    _require_file(source)
    digest = _checked(source, algorithm, expected)
    with replacing(out) as part:
        shutil.copyfile(source, part)
    return digest


def fetch_archive(archive: Path, record: Path, *, url: str | None, path: str | None, md5: str | None) -> None:
    """Bring a data set's archive to `archive` and check its MD5; a local one is linked in place, not copied.

    Args:
        archive: file or link to make.
        record: record to write.
        url: address, as for `fetch`.
        path: local archive; wins over `url`.
        md5: expected MD5; None for an archive that is taken as it is.

    Raises:
        StagebenchError: as for `fetch`.
    """
    watch = Stopwatch()
    local = Path(path).expanduser() if path is not None else local_path(url or "")
    if local is not None:
        _require_file(local)
        digest = _checked(local, "md5", md5)
        _link(local, archive)
    else:
        digest = fetch(url or "", archive, algorithm="md5", expected=md5)
    entry = FileEntry(path=archive.as_posix(), md5=digest.hex(), bytes=digest.length)
    entry.note(archive)
    ArchiveRecord.make(
        watch,
        result=Archive(
            source=str(local) if local is not None else without_credentials(url or ""), fetched=True, photographs=()
        ),
        outputs={"archive": entry},
    ).write(record)


def local_path(url: str) -> Path | None:
    """Return the path that an address without a scheme, or with the scheme file, means; None for what is remote.

    Raises:
        StagebenchError: the scheme is another one.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return None
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    if not parts.scheme:
        return Path(url).expanduser()
    raise StagebenchError(f"{without_credentials(url)}: cannot be fetched; use https, file or a path")


def _checked(source: Path, algorithm: str, expected: str | None) -> Digest:
    digest = Digest.of_file(algorithm, source)
    found = digest.hex()
    if expected is not None and found != expected:
        raise StagebenchError(
            f"{source}: its {algorithm.upper()} is {found}, expected is {expected}; correct the digest or the path"
        )
    return digest


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise StagebenchError(f"{path}: no such file; correct the path in the config")


def _aside(out: Path, algorithm: str, found: str) -> Path:
    return out.with_name(f"{out.name}.{algorithm}-{found}")


def _link(source: Path, archive: Path) -> None:
    with replacing(archive) as part:
        part.symlink_to(source.resolve())
