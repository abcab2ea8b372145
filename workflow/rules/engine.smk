"""From prepared ONNX files to engines.

Takes: <results>/models/{model}/{onnx_variant}.onnx (for torch the weights themselves).
Leaves: <results>/devices/{device}.json and <results>/engines/{device}/{model}/{engine}/{precision}/batch{batch}.engine
with its record, which is always written: if nothing could be built it says why.
"""


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


rule probe_device:
    output:
        record="<results>/devices/{device}.json",
    log:
        "<logs>/probe_device/{device}.log",
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
        gpu=gpus_of,
    params:
        settings=given(device_settings),
        compared=compared(device_settings),
        hardware=hardware_of,
        code=code_of("probe_device.py"),
        format=format_of("device"),
    message:
        "Find out what machine {wildcards.device} is"
    script:
        "../scripts/probe_device.py"


rule build_engine:
    input:
        source=engine_source,
        source_record=engine_source_record,
        device=device_record,
    output:
        engine="<results>/engines/{device}/{model}/{engine}/{precision}/batch{batch}.engine",
        record="<results>/engines/{device}/{model}/{engine}/{precision}/batch{batch}.json",
    log:
        "<logs>/build_engine/{device}/{model}/{engine}/{precision}/batch{batch}.log",
    threads: 4
    resources:
        machine=1,
        mem_mb=growing(4000),
        runtime=growing(60),
        disk_mb=growing(1000),
        gpu=gpus_of,
        tries_left=tries_left,
    params:
        settings=given(build_settings),
        compared=compared(build_settings),
        library=lambda wildcards: library_of(wildcards.engine),
        engine_code=lambda wildcards: code_of_engine(wildcards.engine),
        code=code_of("build_engine.py"),
        format=format_of("engine"),
        caches=lambda wildcards, input: place(
            f"<results>/engines/{wildcards.device}/caches"
        ),
        tries=forward_tries,
    message:
        "Build the {wildcards.engine} engine of {wildcards.model} in {wildcards.precision} for batches of {wildcards.batch}"
    script:
        "../scripts/build_engine.py"
