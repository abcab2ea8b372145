"""The checked config and how rules read it: accessors by wildcards, folders, wildcard constraints. No rules."""

import functools
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import SharedFSUsage

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from stagebench import config as configuration
from stagebench.dataset.decode.images import DECODER
from stagebench.errors import StagebenchError
from stagebench.host import gpu, identity
from stagebench.vocabulary import ONNX_VARIANTS, PRECISIONS, QUANTISED

try:
    CONFIG = configuration.load(config)
except StagebenchError as error:
    raise WorkflowError(str(error)) from None


# The config's `pathvars` win over these. Data sets have a folder of their own, so that several configs share them.
pathvars:
    datasets="results/datasets",


def place(pattern):
    """A path with the folders of this run in place of <results>, <logs>, <resources> and <datasets>.

    Snakemake does this for inputs, outputs and logs by itself, not for params.
    """
    return workflow.pathvars.apply(workflow.modifier.modify_path(pattern))


def any_of(names):
    """A regular expression for exactly these names; one that matches nothing if there are none."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


wildcard_constraints:
    device=any_of(CONFIG.devices),
    model=any_of(CONFIG.models),
    dataset=any_of(CONFIG.datasets),
    engine=any_of(CONFIG.engine_names()),
    precision=any_of(PRECISIONS),
    onnx_variant=any_of(ONNX_VARIANTS),
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


def of_dataset(file):
    """An input function: a file of the data set that belongs to the wildcards."""
    return lambda wildcards: f"<datasets>/{dataset_of(wildcards)}/{file}"


def files_shared():
    """Whether jobs see this machine's files, wherever they run."""
    return SharedFSUsage.INPUT_OUTPUT in workflow.storage_settings.shared_fs_usage


def images_shipped(wildcards):
    """The folder of images if no file system is shared, so that they travel with the job; else nothing.

    On a shared file system the manifest alone shows whether anything has changed.
    """
    if files_shared():
        return []
    return f"<datasets>/{dataset_of(wildcards)}/images"


# Asked for every cell of a plan, and the same for all of them.
engine_of = functools.cache(CONFIG.engine)


def on_gpu(name):
    """Whether an engine takes the machine's accelerator."""
    return engine_of(name).device_kind == "gpu"


@functools.cache
def engines_of_auto():
    """What `auto` means on this machine, and why: (names, None or a sentence for the report)."""
    reason = gpu.probe()
    if reason is None and not engine_of("tensorrt").is_installed():
        reason = "the package tensorrt is not installed (docs/gpu.md has the command)"
    if reason is None:
        return ("tensorrt",), None
    names = ("openvino", "onnxruntime")
    elsewhere = " on the machine that submits; name the engines for a cluster's GPUs"
    return (
        names,
        f"`engines: auto` means {' and '.join(names)} here, since TensorRT cannot run: {reason}"
        + ("" if runs_here() else elsewhere),
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
