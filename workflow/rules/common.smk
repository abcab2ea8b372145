"""What the rules share: the checked config, the vocabulary of wildcards, and what a stage depends on. No rules.

A stage depends on its inputs, its parameters and, as parameters too, on the digest of the code it reaches (`code`), on
the format of the records (`format`) and, where jobs run on this machine, on the engine library's version and the
hardware. On a cluster the last two are not known here: a job refuses hardware other than its device record's.
"""

import functools
import hashlib
import math
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import SharedFSUsage

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

# `tries` writes it: it is part of what jobs on other machines get.
os.environ.setdefault("STAGEBENCH_TRIES", "1")


envvars:
    "STAGEBENCH_TRIES",


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


def images_shipped(wildcards):
    """The folder of images where no file system is shared, so that they travel with the job; else nothing.

    Where it is shared the manifest alone tells whether anything has changed, and images are read beside it.
    """
    if SharedFSUsage.INPUT_OUTPUT in workflow.storage_settings.shared_fs_usage:
        return []
    return f"results/datasets/{dataset_of(wildcards)}/images"


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
    """Whether jobs run on this machine, so that its hardware and libraries are theirs. Known once the DAG is built.

    A dry run plans for the executor that it stands for. Of that one Snakemake keeps only that jobs elsewhere are watched
    by threads, and where nothing is executed at all (`--summary`) that a number of nodes was given.
    """
    if workflow.remote_exec:
        return False
    plugin = workflow.executor_plugin
    if plugin is None:
        return workflow.resource_settings.nodes is None
    if plugin.common_settings.dryrun_exec or plugin.common_settings.touch_exec:
        return not workflow.execution_settings.use_threads
    return workflow.local_exec


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


# Asked for every cell of a plan, and the same for all of them.
engine_of = functools.cache(engines.get)


@functools.cache
def versions_here(name):
    """Versions of the libraries that an engine depends on, as they are installed here."""
    return records.versions(*engine_of(name).distributions)


def library_of(name):
    """Versions of the libraries that an engine depends on; empty where only the job itself can know them."""
    return versions_here(name) if runs_here() else {}


def machine_of(wildcards):
    """What timed jobs may do on a device: read from its own disk, share it."""
    tries()  # early enough for executors that copy the environment when they start
    entry = CONFIG.devices[wildcards.device]
    return {"local_scratch": entry.local_scratch, "share_node": entry.share_node}


@functools.cache
def has_gpu(name):
    """Whether a cluster's device has a GPU: the config gives its architecture, or `local` is to run engines for one."""
    if CONFIG.devices[name].compute_capability is not None:
        return True
    named = [engine for engine in CONFIG.cases.engines if engine != "auto"]
    return name == "local" and any(map(on_gpu, named))


def gpus_of(wildcards):
    """How many GPUs a job on a device asks for.

    Here only what runs on a GPU needs one. On a cluster a device that has a GPU is one with it, whatever runs there:
    its record tells of the card, and a job without it would find itself on other hardware.
    """
    if not runs_here():
        return int(has_gpu(wildcards.device))
    engine = getattr(wildcards, "engine", None)
    # torch takes the card where there is one.
    return int(on_gpu(engine) if engine else gpu_here())


gpu_here = functools.cache(gpu.gpu_present)


def growing(amount):
    """A resource that grows with each attempt: `amount`, twice as much, and so on."""
    return lambda wildcards, attempt: amount * attempt


def growing_by_image(base, each):
    """A resource that grows with the images of the wildcards' data set, `each` of them, and with each attempt."""

    def amount(wildcards, attempt):
        images = subset_of(wildcards) or dataset_entry(wildcards).images
        return attempt * math.ceil(base + each * images)

    return amount


def timed_minutes(each, repeats):
    """The run time of a timed rule, growing with each attempt: `each` image of each of `measurement.{repeats}` passes.

    The minutes were measured on two CPU cores; a GPU takes a tenth at most. The rest is loading, warm-up and blocks.
    """

    def minutes(wildcards, attempt):
        images = subset_of(wildcards) or dataset_entry(wildcards).images
        passes = getattr(CONFIG.measurement, repeats)
        pace = each / 10 if gpus_of(wildcards) else each
        return attempt * math.ceil(15 + pace * images * passes)

    return minutes


def memory_of_batch(wildcards, attempt):
    """The memory of a timed job in MB, growing with each attempt: what its libraries take, and its batch."""
    return attempt * (4000 + 20 * int(wildcards.batch))


def tries():
    """How often a job is tried. The process that submits knows it once the DAG is built; jobs have it from there."""
    if not workflow.remote_exec:
        retries = getattr(workflow.execution_settings, "retries", 0)
        os.environ["STAGEBENCH_TRIES"] = str(1 + retries)
    return int(os.environ["STAGEBENCH_TRIES"])


def tries_left(wildcards, attempt):
    """How often a scheduler would try a job again with more; never where jobs run here, whose memory is what it is."""
    return 0 if runs_here() else max(0, tries() - attempt)


def device_record(wildcards):
    """The device's record. It is held until it is deleted, and a job refuses hardware other than that."""
    return f"results/devices/{wildcards.device}.json"


def on_gpu(name):
    """Whether an engine runs on a GPU."""
    return engine_of(name).device_kind == "gpu"


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
        f"`engines: auto` stands for {' and '.join(names)} here, since TensorRT cannot run: {reason}"
        + (
            ""
            if runs_here()
            else " on the machine that submits; name the engines for a cluster's GPUs"
        ),
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
