"""The user's own files, which the config names by their paths: where they lie, and what they hold. No rules.

They are no inputs in Snakemake's sense, which go by time stamps: a file put there with an old one would not be noticed,
and what is missing would not be told by the config's key. What they hold is a parameter of the rules that read them.
"""

from types import SimpleNamespace

from stagebench.dataset.download import local_path
from stagebench.dataset.folder import listing
from stagebench.job import own_files
from stagebench.records.data import ArchiveRecord


def own_file(section, source, key):
    """The file that a source names by its path, in `key` or in `url`, by the config's key; nothing if it is remote."""
    if (path := getattr(source, key)) is not None:
        return {f"{section}.{key}": Path(path).expanduser()}
    try:
        path = local_path(source.url)
    except StagebenchError:  # an address of another kind: its job says so
        path = None
    return {} if path is None else {f"{section}.url": path}


def checkpoint_file(wildcards):
    """The local checkpoint."""
    section = f"models.{wildcards.model}.weights"
    return own_file(section, model_of(wildcards).weights, "file")


def prepared_files(model, precisions):
    """The quantised files of a model that the config names for precisions."""
    return {
        f"models.{model}.prepared.{precision}.file": Path(entry.file).expanduser()
        for precision, entry in CONFIG.models[model].prepared.items()
        if precision in precisions
    }


def prepared_file(wildcards):
    """The user's own file in place of a variant."""
    return prepared_files(wildcards.model, [ONNX_VARIANTS[wildcards.onnx_variant]])


def archive_file(wildcards):
    """The local archive, or the folder that is linked."""
    section = f"datasets.{dataset_of(wildcards)}.archive"
    return own_file(section, dataset_entry(wildcards).archive, "path")


def label_file(wildcards):
    """ImageNet's development kit, if the labels are compared with it."""
    devkit = dataset_entry(wildcards).devkit
    key = f"datasets.{dataset_of(wildcards)}.devkit"
    return {} if devkit is None else {key: Path(devkit).expanduser()}


def folder_files(wildcards):
    """What linking a folder reads."""
    return archive_file(wildcards) | label_file(wildcards)


def is_kept(dataset):
    """Whether a data set's own archive is gone, but was extracted from where the config says: its images stay."""
    if CONFIG.datasets[dataset].archive is None or not files_shared():
        return False
    paths = archive_file(SimpleNamespace(dataset=dataset)).values()
    manifest = Path(place(f"<datasets>/{dataset}/manifest.csv"))
    if not paths or any(path.exists() for path in paths) or not manifest.exists():
        return False
    try:
        record = ArchiveRecord.read(Path(place(f"<resources>/{dataset}/archive.json")))
        return record.found.source in map(str, paths)
    except StagebenchError:
        return False


def files_of_case(model):
    """The user's own files of a case, but for an archive that is extracted."""
    case = SimpleNamespace(model=model)
    named = label_file(case)
    if dataset_entry(case).archive is not None and not is_kept(dataset_of(case)):
        named |= archive_file(case)
    if model_of(case).weights != "demo":
        named |= checkpoint_file(case)
    named |= prepared_files(model, CONFIG.cases.precisions)
    return named


def no_file(key, path, reason="no such file"):
    """What to say of a file that cannot be read."""
    return f"config: {key}: {path}: {reason}; correct the path, or put the file there"


# Told at once for the cases. For any other model the line comes when a target needs it.
if files_shared():
    for model in CONFIG.cases.models:
        for key, path in files_of_case(model).items():
            if not path.exists():
                raise WorkflowError(no_file(key, path))


@functools.cache
def state_of(key, path):
    """What an own file or folder holds, as far as planning can know it."""
    try:
        return listing(path) if path.is_dir() else own_files.state(path)
    except OSError as error:
        raise WorkflowError(no_file(key, path, error.strerror)) from None


def owned(files):
    """The parameter that makes a stage stale when the user's own files change: `files` gives them by wildcards."""

    def compared_files(wildcards):
        if not files_shared():
            return "own files of the job"
        states = {key: state_of(key, path) for key, path in files(wildcards).items()}
        return f"own files {digest_of(states)}"

    return compared_files
