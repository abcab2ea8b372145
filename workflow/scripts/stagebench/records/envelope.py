"""The envelope that all records share, and how a record is written, read and passed on.

A record is the JSON object next to an artifact that says how it was made. A stage's findings are its `result`, which
exists only if the status is "ok". A record in any other state says why, and whoever needs its artifact passes that
state on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from stagebench.errors import StagebenchError
from stagebench.records import proofs
from stagebench.records.artifact import Artifact, ChangedError
from stagebench.records.io import digest, write_json, write_text
from stagebench.records.lifetime import require_masters
from stagebench.vocabulary import OK, State, Status

#: Content of an output file for which nothing was made.
PLACEHOLDER = "nothing was made: {status} ({reason}); its record has the details\n"


#: The field of a record's file that shows an edit.
SEAL = "seal"


class Value(BaseModel):
    """A frozen value of a record: unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(Value):
    """A file that went into a stage or came out of it, with its digests. Archives have an MD5 alone."""

    path: str
    bytes: int
    sha256: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the entry of a file as it is on disk, with its SHA-256."""
        before = proofs.FileState.of(path)
        entry = cls(path=path.as_posix(), bytes=before.bytes, sha256=digest(path))
        entry.note(path, before)
        return entry

    def note(self, path: Path, state: proofs.FileState | None = None) -> None:
        """Keep that the file at `path` has this entry's digest, which was computed while it was written or read.

        Args:
            state: the state before it was read; by default the present one, of a file that was just written.
        """
        now = proofs.FileState.of(path)
        if state in (None, now):
            proofs.note(proofs.fact([now], [str(self.sha256 or self.md5)]))


class Failure(Value):
    """A process that failed: the signal that killed it, and its peak RSS in bytes."""

    signal: str | None
    peak_memory_bytes: int


class Stopwatch:
    """Wall time in seconds since it was made; each stage starts one first of all."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        #: Kept here since a stage's record may be written by a child process.
        self.start_s = _start_s
        self.settings = _settings

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._start


# Set once per job, when its script begins.
_start_s: float | None = None
_settings: str | None = None


def job_begins(settings: str | None) -> None:
    """Note how long this process took to get here: the interpreter, Snakemake's preamble, the script's imports.

    Args:
        settings: the parameter that stands for the job's settings.
    """
    global _start_s, _settings  # noqa: PLW0603 - a process is one job
    _settings = settings
    # Field 22 of proc(5)'s stat, after the command in parentheses: start after boot in clock ticks.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    _start_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


Result = TypeVar("Result", bound=Value)


class Record(Value, Generic[Result]):
    """The envelope. A subclass fixes `kind`, gives the type of `result`, and may add fields known in any state."""

    #: Raised by hand when the meaning of this kind of record changes. It is a parameter of the rule that writes the
    #: kind, so raising it reruns that rule and what follows from it.
    FORMAT: ClassVar[int]
    #: What was made.
    KIND: ClassVar[str]

    kind: str
    format: int
    status: Status
    #: One line; null where the status is "ok".
    reason: str | None
    #: Kind of the record in which the state first arose; null where it arose here.
    origin: str | None
    #: What is known of a process that failed; null for any other state.
    failure: Failure | None
    #: Wall time of the stage in seconds, and the part of it that went into comparing files with their records.
    wall_s: float
    checked_s: float
    #: Seconds from the start of the job's process to the stage's first useful work; null outside a job.
    start_s: float | None
    #: Digest of the settings that the stage was run with; null outside a job.
    settings: str | None
    #: UTC time at which the stage ended, ISO 8601.
    finished: str
    inputs: dict[str, FileEntry]
    outputs: dict[str, FileEntry]
    #: Distribution -> version of what made it.
    versions: dict[str, str]
    #: What the stage found out; null unless the status is "ok".
    result: Result | None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.kind != self.KIND:
            raise ValueError(f"kind is {self.kind!r}, not {self.KIND!r}")
        if (self.status is Status.OK) != (self.result is not None):
            raise ValueError(
                f"status is {self.status.value!r}, but result is {'null' if self.result is None else 'there'}"
            )
        if (self.status is Status.OK) != (self.reason is None):
            raise ValueError(f"status is {self.status.value!r}, but reason is {self.reason!r}")
        return self

    @classmethod
    def make(
        cls,
        watch: Stopwatch,
        *,
        result: Result | None = None,
        state: State = OK,
        origin: str | None = None,
        failure: Failure | None = None,
        inputs: Mapping[str, FileEntry] | None = None,
        outputs: Mapping[str, FileEntry] | None = None,
        versions: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Self:
        """Return a record that ends here and now: with `result` where the state is ok, else with the state's reason."""
        return cls(
            kind=cls.KIND,
            format=cls.FORMAT,
            status=state.status,
            reason=None if state.ok else state.reason,
            origin=origin,
            failure=failure,
            wall_s=round(watch.seconds(), 6),
            checked_s=round(proofs.seconds(), 6),
            start_s=None if watch.start_s is None else round(watch.start_s, 2),
            settings=watch.settings,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            inputs=dict(inputs or {}),
            outputs=dict(outputs or {}),
            versions=dict(versions or {}),
            result=result,
            **fields,
        )

    @property
    def state(self) -> State:
        """Status and reason."""
        return State(self.status, self.reason or "")

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status is Status.OK

    @property
    def found(self) -> Result:
        """The result.

        Raises:
            StagebenchError: the record is in another state and has none.
        """
        if self.result is None:
            raise StagebenchError(f"{self.kind}: {self.status.value}, there is no result ({self.reason})")
        return self.result

    def artifact(self, name: str, path: Path) -> Artifact:
        """Return an output of this record, at `path`, to be compared with what the record says of it."""
        return Artifact(path, self.outputs[name])

    def write(self, path: Path) -> None:
        """Write the record atomically, with its seal.

        Raises:
            OrphanedError: the job, or the Snakemake that started it, is gone.
        """
        require_masters()
        write_json(path, sealed(self.model_dump(mode="json")))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record of this kind.

        Raises:
            StagebenchError: the file is missing, is not JSON, is a record of another kind or format, or has missing,
                unknown or impossible fields; the text names the first of them.
            ChangedError: it was edited after it was written.
        """
        raw = _read(path)
        again = f"delete it and run the target {path}"
        if raw.get("kind") != cls.KIND:
            raise StagebenchError(f"{path}: a record of kind {raw.get('kind')!r}, not {cls.KIND!r}; {again}")
        if raw.get("format") != cls.FORMAT:
            raise StagebenchError(
                f"{path}: written in format {raw.get('format')}, this version reads format {cls.FORMAT}; {again}"
            )
        if sealed(raw) != raw:
            raise ChangedError(f"{path}: edited since it was written; {again}")
        del raw[SEAL]
        try:
            return cls.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "record"
            what = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(first["type"], first["msg"])
            raise StagebenchError(f"{path}: {where}: {' '.join(what.split())}; {again}") from None


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's JSON object with its seal: the SHA-256 of all other fields, sorted by name, without spaces."""
    content = {name: value for name, value in fields.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, SEAL: hashlib.sha256(text.encode()).hexdigest()}


class Header(NamedTuple):
    """Kind and status of a record, as its file states them."""

    kind: str
    status: str


def header(path: Path) -> Header:
    """Return kind and status of a record of any kind and format.

    Raises:
        StagebenchError: the file is missing or is no record.
    """
    raw = _read(path)
    return Header(str(raw.get("kind")), str(raw["status"]))


def _read(path: Path) -> dict[str, Any]:
    """Read the JSON object of a record, unchecked but for being one."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StagebenchError(f"{path}: no such record; run the target {path} first") from None
    except (ValueError, RecursionError) as error:
        raise StagebenchError(f"{path}: not a JSON record ({error}); delete it and run again") from None
    if not isinstance(raw, dict) or "status" not in raw:
        raise StagebenchError(f"{path}: not a record of this workflow; delete it and run again")
    return raw


def passed_on(
    kind: type[Record[Any]],
    path: Path,
    watch: Stopwatch,
    *,
    sources: Iterable[Record[Any]],
    outputs: Mapping[str, Path],
    **fields: Any,
) -> bool:
    """Write the record of a stage that cannot start because something it needs is in another state than ok.

    The first such source gives status and reason; each output file says in one line that nothing was made.

    Returns:
        Whether there was such a source; if not, nothing is written.
    """
    blocking = next((source for source in sources if not source.ok), None)
    if blocking is None:
        return False
    origin = blocking.origin or blocking.kind
    write_unmade(kind, path, watch, state=blocking.state, outputs=outputs, origin=origin, **fields)
    return True


def write_unmade(
    kind: type[Record[Any]],
    path: Path,
    watch: Stopwatch,
    *,
    state: State,
    outputs: Mapping[str, Path],
    **fields: Any,
) -> None:
    """Write the record of a stage that made nothing, and placeholders for its output files."""
    for file in outputs.values():
        write_text(file, PLACEHOLDER.format(status=state.status.value, reason=state.reason))
    entries = {name: FileEntry.of(file) for name, file in outputs.items()}
    kind.make(watch, state=state, outputs=entries, **fields).write(path)
