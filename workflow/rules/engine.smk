"""From prepared ONNX files to engines.

Takes: <results>/models/{model}/{onnx_variant}.onnx (for torch the weights themselves).
Leaves: <results>/devices/{device}.json and <results>/engines/{device}/{model}/{engine}/{precision}/batch{batch}.engine
with its record, which is always written: if nothing could be built it says why.
"""


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
        manifest=ancient(linked_manifest),
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
        architecture=architecture_run,
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
