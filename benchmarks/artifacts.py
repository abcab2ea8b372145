"""What the benchmarks measure: the embedded default's own files, made by the workflow where they are missing."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

from stagebench.dataset.decode.images import DECODER
from stagebench.dataset.manifest import ManifestRow, validation_rows
from stagebench.engines import registry
from stagebench.engines.base import Session
from stagebench.preprocessing import Preprocessing
from stagebench.records.cells import EngineRecord

ROOT = Path(__file__).resolve().parent.parent
MODEL = "resnet50-demo"
BATCH = 16
PRECISIONS = ("fp32", "int8")
ENGINES = ("openvino", "onnxruntime", "noop")
MANIFEST = ROOT / "results/datasets/sample/manifest.csv"
IMAGES = MANIFEST.parent / "images"
PIXELS = MANIFEST.parent / f"pixels/{Preprocessing().recipe(DECODER)}.npy"


def engine_file(engine: str, precision: str, batch: int = BATCH) -> Path:
    """Return the path of an engine file."""
    return ROOT / f"results/engines/local/{MODEL}/{engine}/{precision}/batch{batch}.engine"


def prepare() -> None:
    """Let the workflow make whatever is missing or stale."""
    built = [engine_file(engine, precision) for engine in ENGINES for precision in PRECISIONS]
    targets = [str(path.relative_to(ROOT)) for path in (*built, PIXELS)]
    subprocess.run([sys.executable, "-m", "snakemake", "--cores", "2", *targets, "-q"], cwd=ROOT, check=True)


def build_record(engine: str, precision: str, batch: int = BATCH) -> EngineRecord:
    """Return the record of an engine file."""
    return EngineRecord.read(engine_file(engine, precision, batch).with_suffix(".json"))


def open_session(engine: str, precision: str, batch: int = BATCH) -> Session:
    """Open an engine file as the workflow's runs do."""
    return registry.get(engine).open(engine_file(engine, precision, batch), build_record(engine, precision, batch))


def model_file(engine: str, precision: str) -> Path:
    """Return the prepared ONNX file that an engine is built from."""
    variant = registry.get(engine).variant(precision)
    assert variant is not None, f"{engine} has no {precision}"
    return ROOT / f"results/models/{MODEL}/{variant}.onnx"


@cache
def validation_images() -> list[ManifestRow]:
    """Return the rows of the validation images."""
    return validation_rows(MANIFEST, None)
