"""What the rules share: the checked config, the vocabulary of wildcards, and what a stage depends on. No rules.

A stage depends on its inputs, its parameters and, as parameters too, on the digest of the code it reaches (`code`), on
the format of the records (`format`) and, where jobs run on this machine, on the engine library's version and the
hardware. On a cluster the last two are not known here: a job refuses hardware other than its device record's.
"""

import functools
import hashlib
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from stagebench import closure, device, engines, gpu, records
from stagebench import config as configuration
from stagebench.dataset.images import DECODER
from stagebench.engines.base import PRECISIONS, VARIANTS
from stagebench.records import FORMAT, StagebenchError

try:
    CONFIG = configuration.load(config)
except StagebenchError as error:
    raise WorkflowError(str(error)) from None

# The machine's memory is the limit for jobs side by side, unless the command line gives another.
if not {"mem", "mem_mb", "mem_mib"} & set(workflow.global_resources):
    workflow.register_resource("mem_mb", device.memory_mb())


def any_of(names):
    """A regular expression for exactly these names; one that matches nothing where there are none."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


wildcard_constraints:
    device=any_of(CONFIG.devices),
    model=any_of(CONFIG.models),
    dataset=any_of(CONFIG.datasets),
    engine=any_of(engines.names()),
    precision=any_of(PRECISIONS),
    variant=any_of(VARIANTS),
    batch="[1-9][0-9]*",
    recipe="[0-9a-f]{16}",


def model_of(wildcards):
    """The model's entry in the config."""
    return CONFIG.models[wildcards.model]


def dataset_of(wildcards):
    """The data set's name: the wildcard itself, or the one whose labels the model knows."""
    return getattr(wildcards, "dataset", None) or model_of(wildcards).dataset


def dataset_entry(wildcards):
    """The data set's entry in the config."""
    return CONFIG.datasets[dataset_of(wildcards)]


def preprocessing_of(wildcards):
    """The model's preprocessing as plain values."""
    return model_of(wildcards).preprocessing.model_dump(mode="json")


def architecture_of(wildcards):
    """The model's architecture, `package.module.callable`."""
    return model_of(wildcards).architecture


def subset_of(wildcards):
    """How many validation images are used; None for all."""
    return dataset_entry(wildcards).subset


def of_dataset(pattern):
    """An input function: `pattern` with {dataset} filled in for the wildcards' model."""
    return lambda wildcards: pattern.format(dataset=dataset_of(wildcards))


@functools.cache
def code_of(script):
    """Digest of a script and of all modules that it reaches."""
    return closure.closure_digest(SCRIPTS / script)


@functools.cache
def code_of_engine(name):
    """Digest of an engine's file and of all modules that it reaches: engines are found by name, not imported."""
    return closure.closure_digest(SCRIPTS / "stagebench" / "engines" / f"{name}.py")


@functools.cache
def digest_of_folder(folder):
    """Digest of the contents of a folder's files, by name."""
    total = hashlib.sha256()
    for file in sorted((Path(workflow.basedir) / folder).iterdir()):
        total.update(f"{file.name}\0{records.digest(file)}\n".encode())
    return total.hexdigest()[:16]


def runs_here():
    """Whether jobs run on this machine, so that its hardware and libraries are theirs. Known once the DAG is built."""
    return workflow.local_exec and not workflow.remote_exec


@functools.cache
def identity_here():
    """Fingerprint of this machine."""
    return device.fingerprint(device.identity())


def hardware_of(wildcards):
    """Fingerprint of the machine that a device stands for; empty where only the job itself can know it."""
    absent = CONFIG.devices[wildcards.device].compute_capability
    if absent is not None:
        return absent
    return identity_here() if runs_here() else ""


def library_of(name):
    """Versions of the libraries that an engine depends on; empty where only the job itself can know them."""
    return records.versions(*engines.get(name).distributions) if runs_here() else {}


def device_record(wildcards):
    """The device's record. On a cluster it is held for the whole run, and a job refuses hardware other than that."""
    record = f"results/devices/{wildcards.device}.json"
    return record if runs_here() else ancient(record)


def on_gpu(name):
    """Whether an engine runs on a GPU."""
    return engines.get(name).device_kind == "gpu"


@functools.cache
def engines_of_auto():
    """What `auto` stands for on this machine, and why: (names, None or a sentence for the report)."""
    reason = gpu.probe()
    if reason is None and engines.get("tensorrt").version() == "none":
        reason = "the package tensorrt is not installed (docs/gpu.md has the command)"
    if reason is None:
        return ("tensorrt",), None
    names = ("openvino", "onnxruntime")
    return (
        names,
        f"`engines: auto` stands for {' and '.join(names)} here, since TensorRT cannot run: {reason}",
    )


def engine_names():
    """The engines of the cases in order, `auto` resolved. Asked only in the submitting process, by the report."""
    named = []
    for name in CONFIG.cases.engines:
        named.extend(engines_of_auto()[0] if name == "auto" else [name])
    return list(dict.fromkeys(named))


def notes():
    """What the report has to say about how the config was understood."""
    reason = engines_of_auto()[1] if "auto" in CONFIG.cases.engines else None
    return [reason] if reason else []


def cells_of(precisions):
    """The cells of the report with these precisions, in the order of the config."""
    return list(configuration.cells(CONFIG, engine_names(), precisions))
