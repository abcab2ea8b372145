"""From prepared ONNX files to engines.

Takes: results/models/{model}/{variant}.onnx (for torch the weights themselves).
Leaves: results/devices/{device}.json and results/engines/{device}/{model}/{engine}/{precision}/batch{batch}.engine with
its record, which is always written: where nothing could be built it says why.
"""


rule probe_device:
    output:
        record="results/devices/{device}.json",
    log:
        "logs/probe_device/{device}.log",
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
        gpu=gpus_of,
    params:
        compute_capability=lambda wildcards: CONFIG.devices[
            wildcards.device
        ].compute_capability,
        hardware=hardware_of,
        # On a cluster the job is sent to the device, so that its compute capability has to be found there.
        on_device=lambda wildcards: not runs_here(),
        code=code_of("probe_device.py"),
        format=FORMAT,
    message:
        "Find out what machine {wildcards.device} is"
    script:
        "../scripts/probe_device.py"


rule build_engine:
    input:
        source=engine_source,
        source_record=lambda wildcards: str(
            Path(engine_source(wildcards)).with_suffix(".json")
        ),
        device=device_record,
    output:
        engine="results/engines/{device}/{model}/{engine}/{precision}/batch{batch}.engine",
        record="results/engines/{device}/{model}/{engine}/{precision}/batch{batch}.json",
    log:
        "logs/build_engine/{device}/{model}/{engine}/{precision}/batch{batch}.log",
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        disk_mb=growing(1000),
        gpu=gpus_of,
        tries_left=tries_left,
    params:
        architecture=architecture_of,
        preprocessing=preprocessing_of,
        options=lambda wildcards: CONFIG.engines.build_options(wildcards.engine),
        library=lambda wildcards: library_of(wildcards.engine),
        engine_code=lambda wildcards: code_of_engine(wildcards.engine),
        code=code_of("build_engine.py"),
        format=FORMAT,
    message:
        "Build the {wildcards.engine} engine of {wildcards.model} in {wildcards.precision} for batches of {wildcards.batch}"
    script:
        "../scripts/build_engine.py"
