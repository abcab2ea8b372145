"""The configuration: its one definition.

The JSON schema in workflow/schemas/ and the tables in config/README.md are generated from these models
(`make schema`); a test keeps all three in step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from stagebench import registry as plugins
from stagebench.engines import registry
from stagebench.engines.base import Engine
from stagebench.errors import StagebenchError
from stagebench.measure import protocols
from stagebench.preprocessing import Preprocessing
from stagebench.quantisation import QuantisationSettings
from stagebench.vocabulary import Cell, PrecisionName, nearest

__all__ = ["Config", "Preprocessing", "cells", "load"]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_AUTO = "auto"


#: Mark of keys that are checked and have no effect yet: config/README.md leaves them out.
UNDOCUMENTED = "x-no-effect-yet"
_NO_EFFECT_YET: dict[str, JsonValue] = {UNDOCUMENTED: True}


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Cases(Section):
    """Cells to measure: every combination is one, a row of the report."""

    devices: list[Name] = Field(["local"], min_length=1, description="Names from `devices`.")
    models: list[Name] = Field(["resnet50-demo"], min_length=1, description="Names from `models`.")
    engines: list[Name] = Field(
        ["auto"],
        min_length=1,
        description="Engine names, or `auto`: TensorRT where there is a GPU, else openvino and onnxruntime.",
    )
    precisions: list[PrecisionName] = Field(["fp32", "bf16", "int8"], min_length=1, description="Precisions.")
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
    """Source of a checkpoint."""

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


class Prepared(Section):
    """A quantised ONNX file of one's own in place of those of a precision."""

    file: str = Field(
        description="The file, with the ends of `results/models/NAME/simplified.onnx`: uint8 images (batch, crop, "
        "crop, 3) into a Cast, float32 logits. Every engine takes it."
    )
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Expected digest of the file.")


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
    quantization: QuantisationSettings = Field(
        QuantisationSettings(), description="How its int8 and fp8 files are made."
    )
    prepared: dict[Literal["int8", "fp8"], Prepared] = Field(
        {}, description="Quantised files of one's own, by precision; each replaces all that are made here."
    )
    expected: Expected | None = Field(
        None,
        description="Published accuracy on the full data set, if there is one.",
        json_schema_extra=_NO_EFFECT_YET,
    )


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
        None, description="Labelling scheme of the file names; by default `sample` without an archive, else `imagenet`."
    )
    devkit: str | None = Field(
        None, description="ImageNet's development kit (ILSVRC2012_devkit_t12.tar.gz), compared with the labels."
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
        """Whether its path names a folder of extracted images rather than an archive."""
        path = self.archive.path if self.archive else None
        return path is not None and Path(path).expanduser().is_dir()

    @property
    def label_kind(self) -> str:
        """The labelling scheme of its file names."""
        return self.labels or ("imagenet" if self.archive else "sample")


class Measurement(Section):
    """Settings of the measurement."""

    repeats: int = Field(3, ge=1, description="Passes over all images for p_infer_whole, and blocks for core rates.")
    validation_repeats: int = Field(1, ge=1, description="Passes over all images for p_val_whole.")
    cached_repeats: int = Field(
        1, ge=1, description="Passes over the decoded pixels (as many as take a second) for p_infer_cached."
    )
    timeout_s: float = Field(
        600,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which a build or a run without progress (an answered request; while it builds or "
        "loads, processor time) is ended and its cell fails. Changing it reruns nothing.",
    )
    protocol: str = Field(
        "stagebench", description="Measurement protocol; see docs/metrics.md.", json_schema_extra=_NO_EFFECT_YET
    )

    @model_validator(mode="after")
    def _protocol_exists(self) -> Self:
        known = plugins.names(protocols)
        if self.protocol not in known:
            raise ValueError(f"protocol: unknown value {self.protocol!r}{nearest(self.protocol, known)}")
        return self


class Report(Section):
    """Settings of the report."""

    language: Literal["en"] = Field("en", description="Language of the report.", json_schema_extra=_NO_EFFECT_YET)


class Pathvars(Section):
    """Folders of a run, so that several configs live side by side and share data sets and weights."""

    results: str = Field("results", description="Everything that is made, but for data sets.")
    logs: str = Field("logs", description="Logs of the jobs.")
    resources: str = Field("resources", description="Archives and weights.")
    datasets: str = Field("results/datasets", description="Extracted images, manifests and decoded images.")


class Config(Section):
    """The configuration of a run."""

    cases: Cases = Field(Cases())
    devices: dict[Name, Device] = Field({"local": Device()}, description="Kinds of machines, by name.")
    models: dict[Name, Model] = Field(description="Models, by name.")
    datasets: dict[Name, Dataset] = Field(description="Data sets, by name.")
    engines: dict[Name, dict[str, JsonValue]] = Field(
        {}, description="Options of engines by name, and with `module` engines that are not of this package."
    )
    measurement: Measurement = Field(Measurement())
    report: Report = Field(Report())
    pathvars: Pathvars = Field(Pathvars())

    @model_validator(mode="after")
    def _engines_exist(self) -> Self:
        own = registry.names()
        for name, section in self.engines.items():
            module = section.get(registry.MODULE)
            if module is None and name not in own:
                raise ValueError(
                    f"engines.{name}: unknown engine{nearest(name, own)}; one that is not of this package names its "
                    "`module`, such as mypackage.mychip"
                )
            if module is not None and (name in own or name == _AUTO or not isinstance(module, str)):
                raise ValueError(
                    f"engines.{name}.module: {module!r} for the name {name!r}; choose another name, or omit it"
                )
            try:
                registry.options(self.engine(name), section)
            except StagebenchError as error:
                raise ValueError(f"engines.{name}.{error}") from None
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known: dict[str, list[str]] = {
            "devices": list(self.devices),
            "models": list(self.models),
            "engines": [_AUTO, *self.engine_names()],
        }
        for key, choices in known.items():
            for name in getattr(self.cases, key):
                if name not in choices:
                    raise ValueError(f"cases.{key}: unknown {key[:-1]} {name!r}{nearest(name, choices)}")
        for name, model in self.models.items():
            if model.dataset not in self.datasets:
                hint = nearest(model.dataset, self.datasets)
                raise ValueError(f"models.{name}.dataset: unknown data set {model.dataset!r}{hint}")
        others = [name for name in self.cases.devices if name != "local"]
        if _AUTO in self.cases.engines and others:
            raise ValueError(
                f"cases.engines: 'auto' is known only for the device local; name the engines for {', '.join(others)}"
            )
        return self

    def engine_names(self) -> list[str]:
        """Return the names of all engines: those of this package, and those that the config adds."""
        return sorted({*registry.names(), *self.engines})

    def engine_module(self, name: str) -> str | None:
        """Return the module of an engine that is not of this package; None for one that is."""
        module = self.engines.get(name, {}).get(registry.MODULE)
        return module if isinstance(module, str) else None

    def engine(self, name: str) -> Engine:
        """Return an engine by its name.

        Raises:
            StagebenchError: there is no such engine.
        """
        return registry.get(name, self.engine_module(name))


def cells(config: Config, engine_names: list[str], precisions: list[str]) -> Iterator[Cell]:
    """Yield the cells of a run in the order of the config; `engine_names` is what `cases.engines` resolves to."""
    for device in config.cases.devices:
        for model in config.cases.models:
            for engine in engine_names:
                for precision in precisions:
                    for batch in config.cases.batch_sizes:
                        yield Cell(device=device, model=model, engine=engine, precision=precision, batch=batch)


def load(raw: Mapping[str, object]) -> Config:
    """Check a configuration as Snakemake hands it over (a merged dictionary).

    Raises:
        StagebenchError: one line that names the key, what is wrong and, for an unknown name, the nearest known one.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        raise StagebenchError("config: " + "; ".join(_explain(entry) for entry in error.errors())) from None


def _explain(entry: Any) -> str:
    """Turn one of pydantic's errors into a clause that names the key."""
    location = [str(part) for part in entry["loc"]]
    # After `weights` pydantic names the member of the union, which is no key.
    path = [part for before, part in zip(["", *location], location, strict=False) if before != "weights"]
    key = ".".join(path) or "config"
    if entry["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(path[-1], _siblings(path))}"
    if entry["type"] == "missing":
        return f"{key}: is missing"
    if entry["type"] == "value_error":
        text = str(entry["ctx"]["error"])
        return text if not path else f"{key}: {text}"
    if entry["type"] == "literal_error" and isinstance(entry["input"], str):
        choices = [part.strip("'") for part in entry["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{key}: unknown value {entry['input']!r}{nearest(entry['input'], choices)}"
    return f"{key}: {entry['msg'][:1].lower()}{entry['msg'][1:]} (found {entry['input']!r})"


def _siblings(path: list[str]) -> list[str]:
    """Return the known keys on the level of the last part of `path`."""
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
