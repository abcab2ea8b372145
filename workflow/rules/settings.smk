"""What each stage takes from the config: settings as plain values, by wildcards. No rules."""

from types import SimpleNamespace

# Data sets.


def sample_settings(wildcards):
    return {"images": dataset_entry(wildcards).images}


def archive_settings(wildcards):
    return dataset_entry(wildcards).archive.model_dump(mode="json")


def label_settings(wildcards):
    entry = dataset_entry(wildcards)
    return {
        "labels": entry.label_kind,
        "expected": entry.images,
        "devkit": entry.devkit,
    }


def folder_settings(wildcards):
    folder = dataset_entry(wildcards).archive.path
    return {"folder": folder, **label_settings(wildcards)}


def decoding_settings(wildcards):
    return {
        "preprocessing": RECIPES[wildcards.recipe].model_dump(mode="json"),
        "subset": dataset_entry(wildcards).subset,
    }


# Models.


def checkpoint_settings(wildcards):
    model = model_of(wildcards)
    weights = model.weights.model_dump(mode="json")
    return {"weights": weights, "architecture": model.architecture}


def model_settings(wildcards):
    return {
        "architecture": model_of(wildcards).architecture,
        "preprocessing": preprocessing_of(wildcards),
    }


def variant_settings(wildcards):
    """What a variant takes: how it is quantised makes no other variant stale."""
    settings = model_settings(wildcards)
    model, precision = model_of(wildcards), ONNX_VARIANTS[wildcards.onnx_variant]
    if precision in model.prepared:
        settings["prepared"] = model.prepared[precision].model_dump(mode="json")
    elif precision in QUANTISED:
        settings["quantization"] = model.quantization.model_dump(mode="json")
    return settings


def simplification_settings(wildcards):
    return {"preprocessing": preprocessing_of(wildcards)}


# Devices and engines.


def device_record(wildcards):
    """The device's record. It stays until it is deleted, and a job refuses hardware other than that."""
    return f"<results>/devices/{wildcards.device}.json"


def device_settings(wildcards):
    entry = CONFIG.devices[wildcards.device]
    return {
        "compute_capability": entry.compute_capability,
        # On a cluster the job is sent to the device, so that its compute capability has to be found there.
        "on_device": not runs_here(),
    }


def build_settings(wildcards):
    return {
        "cell": cell_of(wildcards),
        "module": CONFIG.engine_module(wildcards.engine),
        "architecture": model_of(wildcards).architecture,
        "preprocessing": preprocessing_of(wildcards),
        "options": build_options(wildcards.engine),
    }


@functools.cache
def build_options(name):
    """The engine's options that its build takes, defaults included: others make no engine stale."""
    checked = registry.options(engine_of(name), CONFIG.engines.get(name, {}))
    return checked.build.model_dump(mode="json")


@functools.cache
def run_options(name):
    """The engine's options that its runs take, defaults included."""
    checked = registry.options(engine_of(name), CONFIG.engines.get(name, {}))
    return checked.run.model_dump(mode="json")


# Children.


def timeout_s(wildcards):
    """Not a part of other settings: how long a child may stand still changes nothing that is measured."""
    return CONFIG.measurement.timeout_s


# Runs.


def run_settings(wildcards, engine=None):
    """What inference and validation have in common; `engine` if the paths name none."""
    entry = CONFIG.devices[wildcards.device]
    name = engine or wildcards.engine
    return {
        "cell": cell_of(wildcards, engine),
        "module": CONFIG.engine_module(name),
        "preprocessing": preprocessing_of(wildcards),
        "subset": dataset_entry(wildcards).subset,
        "policy": {
            "local_scratch": entry.local_scratch,
            "share_node": entry.share_node,
        },
        "protocol": CONFIG.measurement.protocol,
        "scenario": "offline",
        "options": run_options(name),
    }


def validation_settings(wildcards):
    measurement = CONFIG.measurement
    return run_settings(wildcards, "torch") | {
        "architecture": model_of(wildcards).architecture,
        "repeats": measurement.validation_repeats,
        "cached_repeats": 0,
    }


def inference_settings(wildcards):
    measurement = CONFIG.measurement
    return run_settings(wildcards) | {
        "repeats": measurement.repeats,
        "cached_repeats": measurement.cached_repeats,
    }


# Reports.


@functools.cache
def settings_of(stage, cell):
    """The digest of the settings that a stage on a cell's way is to have been run with."""
    model = CONFIG.models[cell.model]
    reference = stage == "validation"
    names = SimpleNamespace(
        device=cell.device,
        model=cell.model,
        engine=cell.engine,
        precision=(
            precision_named(cell.precision).reference if reference else cell.precision
        ),
        batch=cell.batch,
        dataset=model.dataset,
        recipe=model.preprocessing.recipe(DECODER),
        onnx_variant=engine_of(cell.engine).variant(cell.precision),
    )
    linked, fitted = (
        CONFIG.datasets[model.dataset].is_folder,
        model.weights == "demo",
    )
    settings = {
        "dataset": folder_settings if linked else label_settings,
        "pixels": decoding_settings,
        "weights": model_settings if fitted else checkpoint_settings,
        "exported": model_settings,
        "simplified": simplification_settings,
        "variant": variant_settings,
        "engine": build_settings,
        "validation": validation_settings,
        "inference": inference_settings,
    }[stage]
    return compared(settings)(names)


def precisions_of(wildcards):
    """The precisions of a report: the one that its path names, or all of the config."""
    named = getattr(wildcards, "precision", None)
    return [named] if named else CONFIG.cases.precisions


def row_records(wildcards):
    return records_needed(precisions_of(wildcards))


def report_settings(wildcards):
    """The rows, and what the report is of: any change of the config makes it stale, whose digest it names."""
    return {
        "rows": rows_of(precisions_of(wildcards)),
        "report": {
            "config_sha256": config_sha256(),
            "precision": getattr(wildcards, "precision", None),
            "notes": notes(),
        },
    }


@functools.cache
def config_sha256():
    """The SHA-256 of the checked config, defaults included."""
    return hashlib.sha256(CONFIG.model_dump_json().encode()).hexdigest()
