"""Records of a model's stages: weights, export, simplification, ONNX variants."""

from __future__ import annotations

from typing import ClassVar

from stagebench.records.envelope import Record, Value


class Weights(Value):
    """A checkpoint in its place."""

    #: Whether it was downloaded or copied rather than fitted.
    fetched: bool
    #: Where it came from, without credentials, or how it was made.
    source: str
    architecture: str
    #: Images that demo weights were fitted to; null for any other checkpoint.
    fitting_images: int | None


class Graph(Value):
    """An ONNX file's opset and the shapes of its ends: name -> dimensions, open ones by name."""

    opset: int
    shapes: dict[str, tuple[int | str, ...]]


class Difference(Value):
    """Proof that two files compute the same: the largest difference of a logit, relative to the largest logit."""

    reference: str
    images: int
    largest_difference: float


class Agreement(Value):
    """Agreement of a file of lower precision with its reference: mean cosine similarity, equal top-1 in percent."""

    reference: str
    images: int
    cosine: float
    top1_agreement: float


class Exported(Value):
    """An exported model."""

    graph: Graph
    compared: Difference


class Simplified(Value):
    """A simplified model."""

    graph: Graph
    nodes_before: int
    nodes_after: int
    compared: Difference


class Calibration(Value):
    """The images that ranges of activations were taken from."""

    images: int
    #: "fit", "val", or both.
    splits: tuple[str, ...]
    #: SHA-256 of the list, by the images' own digests.
    sha256: str


class Quantisation(Value):
    """Quantisation of a file."""

    #: Types of what is multiplied, by ONNX's names: "int8", "uint8", "float8e4m3fn".
    activations: tuple[str, ...]
    weights: tuple[str, ...]
    #: Type of what is not quantised.
    elsewhere: str
    weight_bits: int
    #: The library that took the ranges, and its method by the config's name.
    library: str
    method: str
    calibration: Calibration
    #: Operations with a quantised input, by type: "Conv" -> 53.
    operations: dict[str, int]
    #: Nodes that the config excludes.
    exclude: tuple[str, ...]


class Variant(Value):
    """A prepared ONNX file whose tensor types are a precision."""

    onnx_variant: str
    graph: Graph
    #: Library that computed the logits that were compared.
    compared_in: str
    compared: Agreement
    #: Null for files that are not quantised, or that the user brought.
    quantisation: Quantisation | None
    #: The user's own file that it is a copy of; null for one that was made here.
    prepared: str | None


class WeightsRecord(Record[Weights]):
    """Beside resources/weights/{model}.pth."""

    KIND: ClassVar[str] = "weights"
    FORMAT: ClassVar[int] = 2


class ExportedRecord(Record[Exported]):
    """Beside exported.onnx."""

    KIND: ClassVar[str] = "exported"
    FORMAT: ClassVar[int] = 2


class SimplifiedRecord(Record[Simplified]):
    """Beside simplified.onnx."""

    KIND: ClassVar[str] = "simplified"
    FORMAT: ClassVar[int] = 2


class VariantRecord(Record[Variant]):
    """Beside {onnx_variant}.onnx."""

    KIND: ClassVar[str] = "variant"
    FORMAT: ClassVar[int] = 3
