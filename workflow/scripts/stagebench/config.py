"""The configuration: its one definition.

The JSON schema in workflow/schemas/ and the tables in config/README.md are generated from these models
(`make schema`); a test keeps all three in step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from stagebench import engines
from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError

__all__ = ["Cell", "Config", "Preprocessing", "cells", "load"]

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Cases(Section):
    """What is measured: every combination is a cell, a row of the report."""

    devices: list[Name] = Field(["local"], min_length=1, description="Names from `devices`.")
    models: list[Name] = Field(["resnet50-demo"], min_length=1, description="Names from `models`.")
    engines: list[Name] = Field(
        ["auto"],
        min_length=1,
        description="Engine names, or `auto`: TensorRT where there is a GPU, else openvino and onnxruntime.",
    )
    precisions: list[Precision] = Field(["fp32", "bf16", "int8"], min_length=1, description="Precisions.")
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([1, 16], min_length=1, description="Images per request.")

    @model_validator(mode="after")
    def _no_repetition(self) -> Self:
        for key in type(self).model_fields:
            values = getattr(self, key)
            if twice := sorted({str(value) for value in values if values.count(value) > 1}):
                raise ValueError(f"{key} names {', '.join(twice)} more than once: list each value once")
        return self


class Device(Section):
    """A kind of machine."""

    compute_capability: str | None = Field(
        None,
        pattern=r"^\d+\.\d$",
        description="GPU architecture of a machine that is not this one, such as `8.0`: engines are built ahead of "
        "time for it, or it is found on a cluster. Empty for the machine that runs the job.",
    )
    local_scratch: str | None = Field(
        None,
        description="Folder on the machine's own disk, such as `$TMPDIR`: timed jobs copy images and pixels there once "
        "and read them from there. Variables are the job's own.",
    )
    share_node: bool = Field(
        False,
        description="Let timed jobs run side by side on one machine, where each has a GPU and CPUs of its own.",
    )


class Weights(Section):
    """Where a checkpoint comes from."""

    url: str | None = Field(None, description="Address to download from (https or file).")
    file: str | None = Field(None, description="Local file; wins over `url`.")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Expected digest of the file.")

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if not (self.url or self.file):
            raise ValueError("has neither url nor file: give one of them")
        return self


# Told apart by their type, so that an error speaks of the one that the user meant.
CheckpointOrDemo = Annotated[
    Annotated[Literal["demo"], Tag("demo")] | Annotated[Weights, Tag("checkpoint")],
    Discriminator(lambda value: "demo" if isinstance(value, str) else "checkpoint"),
]


class Expected(Section):
    """Published accuracy of a model."""

    top1: float = Field(ge=0, le=100, description="Top-1 accuracy in percent.")
    top5: float = Field(ge=0, le=100, description="Top-5 accuracy in percent.")


class Model(Section):
    """An architecture with its weights."""

    architecture: str = Field(
        pattern=r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$",
        description="Importable callable that returns a `torch.nn.Module`, as `package.module.callable`.",
    )
    weights: CheckpointOrDemo = Field(
        description="A checkpoint, or `demo`: seeded weights fitted to the fitting images of the data set."
    )
    dataset: Name = Field(description="Data set whose labels the model knows: a name from `datasets`.")
    preprocessing: Preprocessing = Field(Preprocessing(), description="How an image becomes the model's input.")
    expected: Expected | None = Field(None, description="Published accuracy on the full data set, where there is one.")


class Archive(Section):
    """The archive of a data set."""

    url: str | None = Field(None, description="Address to download from (https or file).")
    path: str | None = Field(
        None, description="Local archive, used in place, or a folder of extracted images; wins over `url`."
    )
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="Expected MD5 of the archive.")

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if not (self.url or self.path):
            raise ValueError("has neither url nor path: give one of them")
        return self


class Dataset(Section):
    """Labelled images."""

    archive: Archive | None = Field(None, description="Its archive; none for `sample`, which is made on the spot.")
    labels: Literal["imagenet", "sample"] | None = Field(
        None, description="Which labels its file names have; by default `sample` without an archive, else `imagenet`."
    )
    devkit: str | None = Field(
        None, description="ImageNet's development kit (ILSVRC2012_devkit_t12.tar.gz), held against the labels."
    )
    images: int = Field(ge=1, description="Number of validation images that it holds; checked at extraction.")
    subset: int | None = Field(
        None, ge=1, description="Use only this many validation images, the same ones each time, balanced over classes."
    )
    pixels: bool = Field(
        True, description="Keep the decoded pixels as a file (150 kB an image), from which p_infer_cached is measured."
    )

    @model_validator(mode="after")
    def _subset_fits(self) -> Self:
        if self.subset is not None and self.subset > self.images:
            raise ValueError(f"subset is {self.subset}, but there are {self.images} images: choose at most that many")
        return self

    @property
    def is_folder(self) -> bool:
        """Say whether its path names a folder of extracted images rather than an archive."""
        path = self.archive.path if self.archive else None
        return path is not None and Path(path).expanduser().is_dir()

    @property
    def label_kind(self) -> str:
        """Return which labels its file names have."""
        return self.labels or ("imagenet" if self.archive else "sample")


class DynamicBatch(Section):
    """Bounds of an engine whose batch size is open."""

    min: int = Field(ge=1, description="Smallest batch size that the engine takes.")
    opt: int = Field(ge=1, description="Batch size that it is tuned for.")
    max: int = Field(ge=1, description="Largest batch size that it takes.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min {self.min}, opt {self.opt}, max {self.max} are not in order: min <= opt <= max")
        return self


class TensorRTOptions(Section):
    """How TensorRT and TensorRT-RTX build and run."""

    workspace_gib: float | None = Field(
        None, gt=0, description="Limit of the builder's scratch memory in GiB; by default the card's memory."
    )
    builder_optimization_level: int | None = Field(
        None, ge=0, le=5, description="0 builds fastest, 5 tries most; by default the library's own (3)."
    )
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = Field(
        "none", description="Which other cards the engine shall run on, at a cost in speed."
    )
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = Field(
        "detailed", description="How much the engine tells of its layers; the record keeps it."
    )
    timing_cache: bool = Field(True, description="Keep the builder's timings of tactics between builds on a device.")
    dynamic_batch: DynamicBatch | None = Field(
        None, description="Build with an open batch size within bounds; by default it is the cell's own, and static."
    )
    cuda_graphs: bool = Field(True, description="Launch each request as one CUDA graph.")


#: Options that a run takes; the others belong to the build.
RUN_OPTIONS = frozenset({"cuda_graphs"})


class Engines(Section):
    """Options of engines that have some."""

    tensorrt: TensorRTOptions = Field(TensorRTOptions(), description="TensorRT.")
    tensorrt_rtx: TensorRTOptions = Field(TensorRTOptions(), description="TensorRT-RTX.")

    def build_options(self, engine: str) -> dict[str, Any]:
        """Return what an engine's `build` takes, as plain values."""
        return {key: value for key, value in self._all(engine).items() if key not in RUN_OPTIONS}

    def run_options(self, engine: str) -> dict[str, Any]:
        """Return what an engine's `open` takes, as plain values."""
        return {key: value for key, value in self._all(engine).items() if key in RUN_OPTIONS}

    def _all(self, engine: str) -> dict[str, Any]:
        section = getattr(self, engine, None) if engine in type(self).model_fields else None
        return section.model_dump(mode="json") if section is not None else {}


class Measurement(Section):
    """How it is measured."""

    repeats: int = Field(3, ge=1, description="Passes over all images for p_infer_whole, and blocks for core rates.")
    validation_repeats: int = Field(1, ge=1, description="Passes over all images for p_val_whole.")
    cached_repeats: int = Field(
        1, ge=1, description="Passes over the decoded pixels (as many as take a second) for p_infer_cached."
    )
    protocol: Literal["stagebench"] = Field("stagebench", description="The way of measuring; docs/metrics.md tells it.")


class Report(Section):
    """How it is reported."""

    language: Literal["en"] = Field("en", description="Language of the report.")


class Config(Section):
    """The configuration of a run."""

    cases: Cases = Field(Cases())
    devices: dict[Name, Device] = Field({"local": Device()}, description="Kinds of machines, by name.")
    models: dict[Name, Model] = Field(description="Models, by name.")
    datasets: dict[Name, Dataset] = Field(description="Data sets, by name.")
    engines: Engines = Field(Engines())
    measurement: Measurement = Field(Measurement())
    report: Report = Field(Report())

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known: dict[str, list[str]] = {
            "devices": list(self.devices),
            "models": list(self.models),
            "engines": ["auto", *engines.names()],
        }
        for key, choices in known.items():
            for name in getattr(self.cases, key):
                if name not in choices:
                    raise ValueError(f"cases.{key}: unknown {key[:-1]} {name!r}{_nearest(name, choices)}")
        for name, model in self.models.items():
            if model.dataset not in self.datasets:
                hint = _nearest(model.dataset, self.datasets)
                raise ValueError(f"models.{name}.dataset: unknown data set {model.dataset!r}{hint}")
        others = [name for name in self.cases.devices if name != "local"]
        if "auto" in self.cases.engines and others:
            raise ValueError(
                f"cases.engines: 'auto' is known only for the device local; name the engines for {', '.join(others)}"
            )
        return self


class Cell(NamedTuple):
    """One row of the report."""

    device: str
    model: str
    engine: str
    precision: str
    batch: int


def cells(config: Config, engine_names: list[str], precisions: list[str]) -> Iterator[Cell]:
    """Yield the cells of a run in the order of the config; `engine_names` is what `cases.engines` resolves to."""
    for device in config.cases.devices:
        for model in config.cases.models:
            for engine in engine_names:
                for precision in precisions:
                    for batch in config.cases.batch_sizes:
                        yield Cell(device, model, engine, precision, batch)


def load(raw: Mapping[str, Any]) -> Config:
    """Check a configuration as Snakemake hands it over (a merged dictionary).

    Raises:
        StagebenchError: one line that names the key, what is wrong and, for an unknown name, the nearest known one.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        raise StagebenchError("config: " + "; ".join(_explain(entry) for entry in error.errors())) from None


def _nearest(name: str, choices: Any) -> str:
    choices = [str(choice) for choice in choices]
    close = difflib.get_close_matches(name, choices, n=1)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(choices)}"


def _explain(entry: Any) -> str:
    """Turn one of pydantic's errors into a clause that names the key."""
    location = [str(part) for part in entry["loc"]]
    # After `weights` pydantic names the member of the union, which is no key.
    path = [part for before, part in zip(["", *location], location, strict=False) if before != "weights"]
    key = ".".join(path) or "config"
    if entry["type"] == "extra_forbidden":
        return f"{key}: unknown key{_nearest(path[-1], _siblings(path))}"
    if entry["type"] == "missing":
        return f"{key}: is missing"
    if entry["type"] == "value_error":
        text = str(entry["ctx"]["error"])
        return text if not path else f"{key}: {text}"
    if entry["type"] == "literal_error" and isinstance(entry["input"], str):
        choices = [part.strip("'") for part in entry["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{key}: unknown value {entry['input']!r}{_nearest(entry['input'], choices)}"
    return f"{key}: {entry['msg'][:1].lower()}{entry['msg'][1:]} (found {entry['input']!r})"


def _siblings(path: list[str]) -> list[str]:
    """Return the known keys beside the last part of `path`."""
    section: Any = Config
    for part in path[:-1]:
        if section is None:  # the part is the name of an entry: its value's model is what follows
            return []
        section = _section_of(section, part)
    return list(section.model_fields) if section is not None else []


def _section_of(section: Any, key: str) -> Any:
    """Return the model below `key` of a section, or of an entry of a dictionary of sections."""
    if isinstance(section, _Entries):
        return section.model
    field = section.model_fields.get(key)
    if field is None:
        return None
    return _model_in(field.annotation)


@dataclass(frozen=True)
class _Entries:
    """A dictionary of sections, such as `models`."""

    model: type[BaseModel]

    @property
    def model_fields(self) -> dict[str, Any]:
        return {}


def _model_in(annotation: Any) -> Any:
    """Find the section that an annotation speaks of: directly, in a union, or as the values of a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    found = next((model for argument in arguments if (model := _model_in(argument))), None)
    if found is not None and getattr(annotation, "__origin__", None) is dict:
        return _Entries(found)
    return found
