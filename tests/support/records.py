"""The records of one measured row, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stagebench.dataset.photographs import PHOTOGRAPHS
from stagebench.preprocessing import Preprocessing
from stagebench.records.cells import (
    Built,
    EngineRecord,
    Execution,
    ImagesUsed,
    InferenceRecord,
    Measured,
    Metrics,
    PassSeconds,
    ReadFrom,
    RunSettings,
    Startup,
    TimeSpent,
    ValidationRecord,
)
from stagebench.records.data import Dataset, DatasetRecord, DecodedImages, PhotographEntry, PixelsRecord
from stagebench.records.envelope import FileEntry, Record, Stopwatch, sealed
from stagebench.records.machine import Environment, Identity, MemoryUse, RanOn
from stagebench.records.models import (
    Agreement,
    Difference,
    Exported,
    ExportedRecord,
    Graph,
    Simplified,
    SimplifiedRecord,
    Variant,
    VariantRecord,
    Weights,
    WeightsRecord,
)
from stagebench.report.rows import RowFiles
from stagebench.vocabulary import Cell, State

CELL = Cell(device="local", model="net", engine="openvino", precision="int8", batch=16)
METRICS = Metrics(p_whole=60.0, p_core=80.0, p_device=70.0, p_cached=78.0, latency_us=12500.0, top1=95.3125, top5=99.0)
# Two passes over 128 images.
TIME_SPENT = TimeSpent(
    threads=2,
    wall=4.5,
    read=0.1,
    decode=0.2,
    resize=0.3,
    input_cpu=0.5,
    wait_slot=8.4,
    wait_input=0.45,
    wait_engine=3.5,
    top_k=0.05,
    h2d=0.0,
    compute=4.0,
    d2h=0.0,
)
FILE = FileEntry(path="x", sha256="a" * 64, bytes=2048)
SECONDS = {
    "dataset": 1.0,
    "pixels": 2.0,
    "weights": 4.0,
    "exported": 8.0,
    "simplified": 16.0,
    "variant": 32.0,
    "engine": 64.0,
    "validation": 128.0,
    "inference": 256.0,
}
ENVIRONMENT = Environment(
    host="node1",
    machine="none",
    cpu="a processor",
    cpus_usable=2,
    cpus_total=4,
    cpu_features=("avx2",),
    cpu_clock="none",
    memory_bytes=24 << 30,
    network="none",
    os="an OS",
    kernel="6.1",
    accelerator="none",
    driver="none",
    cuda_driver="none",
    cuda_runtime="none",
    cuda_toolkit="none",
    gpu=None,
    docker="none",
    container="none",
    framework={"torch": "2.14.1"},
    python="CPython 3.11.7",
)
IDENTITY = Identity(
    present=True,
    isa="x86_64",
    cpu="a processor",
    cpu_count=2,
    cpu_features=("avx2",),
    memory_bytes=24 << 30,
    gpu=None,
)
RAN_ON = RanOn(host="node1", cpus=(0, 1), gpu=None, gpus_given=None, slurm_job=None)
IMAGES = ImagesUsed(name="sample", images=128, subset=None, images_sha256="c" * 64)
MEASURED = Measured(
    settings=RunSettings(
        protocol="stagebench",
        scenario="offline",
        repeats=2,
        cached_repeats=1,
        decode_threads=2,
        requests=2,
        slots=4,
        cpus=(0, 1),
        options={},
    ),
    device_kind="cpu",
    execution=Execution(executed={"u8": 53}, threads=2, streams=2),
    metrics=METRICS,
    memory=MemoryUse(used_bytes=1 << 29, total_bytes=24 << 30, source="rss"),
    time_spent=TIME_SPENT,
    passes=PassSeconds(whole=(2.0, 2.5), cached=(1.5,), cached_images=128, resident=(0.5,)),
    startup=Startup(load_s=0.5, warmup_s=0.25),
    read_from=ReadFrom(folder="results/datasets/sample", file_system="ext4", staged=False, staging_s=0.0),
    unsteady_predictions=0,
    gpu_before=None,
    gpu_after=None,
)
_GRAPH = Graph(opset=20, shapes={"images": ("batch", 224, 224, 3)})


def edit_record(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON of a record in place and seal it again, as its stage would have."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    edit(raw)
    path.write_text(json.dumps(sealed(raw)), encoding="utf-8")


class Records:
    """A folder of records, one row's worth; each can be changed before the report is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cell = CELL
        photographs = tuple(PhotographEntry(**photograph._asdict()) for photograph in PHOTOGRAPHS)
        dataset = Dataset(
            labels="sample", images=128, fitting_images=128, classes=16, bytes=1 << 20, photographs=photographs
        )
        decoded = DecodedImages(
            preprocessing=Preprocessing(), decoder="pillow", images=128, subset=None, images_sha256="c" * 64
        )
        weights = Weights(fetched=False, source="seed 0", architecture="net", fitting_images=128)
        exact = Difference(reference="torch", images=8, largest_difference=1e-6)
        close = Agreement(reference="fp32", images=16, cosine=0.999, top1_agreement=100.0)
        simplified = Simplified(graph=_GRAPH, nodes_before=9, nodes_after=8, compared=exact)
        variant = Variant(
            onnx_variant="int8-cpu",
            graph=_GRAPH,
            compared_in="onnxruntime",
            compared=close,
            quantisation=None,
            prepared=None,
        )
        where: dict[str, Any] = {"ran_on": RAN_ON, "environment": ENVIRONMENT}
        cell: dict[str, Any] = {**where, "cell": CELL, "versions": {"openvino": "1.0"}}
        reference = CELL.model_copy(update={"engine": "torch", "precision": "fp32"})
        self.records: dict[str, Record[Any]] = {
            "dataset": self._made(
                DatasetRecord,
                dataset,
                inputs={"archive": FILE.model_copy(update={"md5": "b" * 32})},
                outputs={"manifest": FILE},
            ),
            "pixels": self._made(PixelsRecord, decoded, outputs={"pixels": FILE}),
            "weights": self._made(WeightsRecord, weights, outputs={"weights": FILE}),
            "exported": self._made(ExportedRecord, Exported(graph=_GRAPH, compared=exact), outputs={"onnx": FILE}),
            "simplified": self._made(SimplifiedRecord, simplified, outputs={"onnx": FILE}),
            "variant": self._made(
                VariantRecord, variant, outputs={"onnx": FILE.model_copy(update={"path": "int8.onnx"})}
            ),
            "engine": self._made(
                EngineRecord,
                Built(build_s=1.0),
                outputs={"engine": FILE},
                device=IDENTITY,
                accelerator=None,
                options={},
                **cell,
            ),
            "validation": self._made(
                ValidationRecord, MEASURED, dataset=IMAGES, cell=reference, versions={"torch": "2.14.1"}, **where
            ),
            "inference": self._made(InferenceRecord, MEASURED, dataset=IMAGES, **cell),
        }
        for stage, seconds in SECONDS.items():
            self.change(stage, wall_s=seconds)

    @staticmethod
    def _made(kind: type[Record[Any]], result: Any, **fields: Any) -> Record[Any]:
        return kind.make(Stopwatch(), result=result, **fields)

    def change(self, stage: str, **fields: Any) -> None:
        """Change fields of a stage's record."""
        self.records[stage] = self.records[stage].model_copy(update=fields)

    def refuse(self, state: State, *stages: str) -> None:
        """Give stages a state without a result; by default the engine, and the run that passes it on."""
        for stage in stages or ("engine", "inference"):
            self.change(stage, status=state.status, reason=state.reason, result=None)

    def rows(self) -> list[RowFiles]:
        """Write the records; return the row that they make."""
        paths = {stage: self.folder / f"{stage}.json" for stage in self.records}
        for stage, record in self.records.items():
            record.write(paths[stage])
        return [RowFiles(self.cell, paths)]
