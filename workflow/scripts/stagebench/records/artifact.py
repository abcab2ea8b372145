"""A file is compared with its record where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.errors import UnrecordedError
from stagebench.records import proofs
from stagebench.records.io import digest
from stagebench.records.proofs import FileState

if TYPE_CHECKING:
    from stagebench.records.envelope import FileEntry


class ChangedError(UnrecordedError):
    """A file or a record is not what was written; the text names what to delete and which target to run."""


@dataclass(frozen=True)
class Artifact:
    """A file that a stage reads, and what the record beside it says of it."""

    path: Path
    entry: FileEntry

    def verify(self) -> Path:
        """Compare the file with its entry, by SHA-256 or, where there is none, by MD5; return its path.

        A file is streamed once; while its state stays what it was, later jobs do not read it again.

        Raises:
            ChangedError: it is missing, or has other contents.
        """
        algorithm, wanted = ("sha256", self.entry.sha256) if self.entry.sha256 else ("md5", self.entry.md5)
        with proofs.counted():
            try:
                state = FileState.of(self.path)
                if state.bytes != self.entry.bytes:
                    raise self._changed(f"{self.entry.bytes} bytes there, {state.bytes} here")
                known = proofs.fact([state], [str(wanted)])
                if not proofs.is_known(known):
                    found = digest(self.path, algorithm)
                    if found != wanted:
                        raise self._changed(f"{algorithm} {_short(wanted)} there, {_short(found)} here")
                    if FileState.of(self.path) == state:
                        proofs.note(known)
            except FileNotFoundError:
                raise ChangedError(f"{self.path}: is missing; run the target {self.path}") from None
        return self.path

    def _changed(self, how: str) -> ChangedError:
        return ChangedError(
            f"{self.path}: changed since its record was written ({how}); delete it and run the target {self.path}"
        )


def _short(text: str | None) -> str:
    return str(text)[:16]
