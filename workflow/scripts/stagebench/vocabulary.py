"""The words that all rooms share, each defined once: precisions, ONNX variants, states of a record, cells."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stagebench.errors import StagebenchError

#: A CUDA compute capability, such as (8, 0).
Capability = tuple[int, int]


@dataclass(frozen=True)
class Precision:
    """An arithmetic in which a network's convolutions and matrix products are computed.

    `min_capability` is the compute capability from which tensor cores multiply in it (CUDA C++ Programming Guide,
    appendix "Compute Capabilities"); None where every GPU does. `cpu_features` are the flags of /proc/cpuinfo of which
    a CPU needs one; an empty tuple means arithmetic that no CPU has, None arithmetic that every CPU has.
    """

    name: str
    #: Element type of the tensors that are multiplied.
    dtype: str
    #: Name of the precision in which torch, the reference, validates it: torch has no int8 or fp8 of its own here.
    reference: str
    min_capability: Capability | None = None
    cpu_features: tuple[str, ...] | None = ()


#: The closed vocabulary of precisions, by name. fp32 and tf32 share their tensors' type.
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "float32", "fp32", cpu_features=None),
        Precision("tf32", "float32", "tf32", min_capability=(8, 0)),
        Precision("fp16", "float16", "fp16"),
        Precision(
            "bf16",
            "bfloat16",
            "bf16",
            min_capability=(8, 0),
            cpu_features=("amx_bf16", "avx512_bf16", "bf16"),
        ),
        Precision(
            "int8",
            "int8",
            "fp32",
            cpu_features=("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "avx2", "asimd"),
        ),
        Precision("fp8", "float8e4m3fn", "fp32", min_capability=(8, 9)),
    )
}

#: The closed vocabulary of ONNX variants, files prepared from one model whose tensor types are a precision, and their
#: precisions. int8 is there twice: quantised where CPUs are fast, and where TensorRT fuses.
ONNX_VARIANTS = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8-cpu": "int8",
    "int8-tensorrt": "int8",
    "fp8": "fp8",
}
#: Precisions whose files carry scales.
QUANTISED = ("int8", "fp8")
#: What an engine names in place of a variant if it is built from the checkpoint itself.
CHECKPOINT = "weights"


def precision(name: str) -> Precision:
    """Return the precision of that name.

    Raises:
        StagebenchError: there is no such precision.
    """
    known = PRECISIONS.get(name)
    if known is None:
        raise StagebenchError(f"unknown precision {name!r}{nearest(name, PRECISIONS)}")
    return known


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the closest known one, or all of them."""
    known = list(choices)
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(known)}"


def _known_precision(name: str) -> str:
    if name not in PRECISIONS:
        raise ValueError(f"unknown value {name!r}{nearest(name, PRECISIONS)}")
    return name


#: The name of a precision as configs and records hold it.
PrecisionName = Annotated[str, AfterValidator(_known_precision), Field(json_schema_extra={"enum": list(PRECISIONS)})]


class Status(StrEnum):
    """The state of a record."""

    OK = "ok"
    #: Device, library and precision do not go together.
    UNSUPPORTED = "unsupported"
    #: A driver, a device or a library is missing here.
    UNAVAILABLE = "unavailable"
    #: It was tried and went wrong: out of memory, killed, an error of the library.
    FAILED = "failed"


#: States that another try may change.
AGAIN = frozenset({Status.UNAVAILABLE, Status.FAILED})


class State(NamedTuple):
    """A status, and in one line the reason for any but `Status.OK`."""

    status: Status
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to explain."""
        return self.status is Status.OK


OK = State(Status.OK)


def unsupported(reason: str) -> State:
    """Return the state of what device, library and precision rule out together, wherever it is tried."""
    return State(Status.UNSUPPORTED, reason)


def unavailable(reason: str) -> State:
    """Return the state of what lacks a driver, a device or a library here."""
    return State(Status.UNAVAILABLE, reason)


def failed(reason: str) -> State:
    """Return the state of what was tried and went wrong."""
    return State(Status.FAILED, reason)


class RefusedError(StagebenchError):
    """Work that was refused with a state: the record's status and reason become those."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return self.state.reason


class Cell(BaseModel):
    """A row of the report: what is measured, on what, by what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    model: str
    engine: str
    precision: PrecisionName
    #: Images per request.
    batch: int = Field(ge=1)

    @property
    def key(self) -> tuple[str, ...]:
        """Its fields as text, in the order of result paths."""
        return (self.device, self.model, self.engine, self.precision, str(self.batch))

    def differences(self, other: Cell) -> list[str]:
        """Return where another cell differs: "batch size 4 there, 8 here" (`self` is there)."""
        names = {"batch": "batch size"}
        pairs = {key: (getattr(self, key), getattr(other, key)) for key in type(self).model_fields}
        return [f"{names.get(key, key)} {a} there, {b} here" for key, (a, b) in pairs.items() if a != b]
