"""From engines to measured figures.

Takes: engines, or the weights for torch, which is the reference; the images and their decoded copies.
Leaves: <results>/inference/…/batch{batch}.json and <results>/validation/…/batch{batch}.json, each with its raw samples
(.npz). A cell that could not be measured has a record, too, which says why.

Timed jobs hold the whole machine: they take all of the resource `machine`, of which every other job takes one unit.
"""


rule run_validation:
    input:
        weights="<resources>/weights/{model}.pth",
        weights_record="<resources>/weights/{model}.json",
        device=device_record,
        manifest=of_dataset("manifest.csv"),
        dataset_record=ancient(of_dataset("dataset.json")),
        images=images_shipped,
    output:
        record="<results>/validation/{device}/{model}/{precision}/batch{batch}.json",
        samples="<results>/validation/{device}/{model}/{precision}/batch{batch}.npz",
    log:
        "<logs>/run_validation/{device}/{model}/{precision}/batch{batch}.log",
    resources:
        machine=WHOLE_MACHINE,
        mem_mb=memory_of_batch,
        runtime=timed_minutes(0.011, "validation_repeats"),
        disk_mb=growing_by_image(200, 0.4),
        gpu=gpus_of,
        tries_left=tries_left,
    params:
        settings=given(validation_settings),
        compared=compared(validation_settings),
        architecture=architecture_of,
        library=lambda wildcards: library_of("torch"),
        engine_code=lambda wildcards: code_of_engine("torch"),
        protocol_code=code_of_protocol(CONFIG.measurement.protocol),
        code=code_of("run_validation.py"),
        format=format_of("validation"),
        tries=forward_tries,
    message:
        "Validate {wildcards.model} with torch in {wildcards.precision}, batches of {wildcards.batch}"
    script:
        "../scripts/run_validation.py"


rule run_inference:
    input:
        engine="<results>/engines/{device}/{model}/{engine}/{precision}/batch{batch}.engine",
        build_record="<results>/engines/{device}/{model}/{engine}/{precision}/batch{batch}.json",
        device=device_record,
        manifest=of_dataset("manifest.csv"),
        dataset_record=ancient(of_dataset("dataset.json")),
        # Depend on the record, so that planning never hashes gigabytes.
        pixels=ancient(pixels_of(".npy")),
        pixels_record=pixels_of(".json"),
        images=images_shipped,
    output:
        record="<results>/inference/{device}/{model}/{engine}/{precision}/batch{batch}.json",
        samples="<results>/inference/{device}/{model}/{engine}/{precision}/batch{batch}.npz",
    log:
        "<logs>/run_inference/{device}/{model}/{engine}/{precision}/batch{batch}.log",
    resources:
        machine=WHOLE_MACHINE,
        mem_mb=memory_of_batch,
        runtime=timed_minutes(0.003, "repeats"),
        disk_mb=growing_by_image(200, 0.4),
        gpu=gpus_of,
        tries_left=tries_left,
    params:
        settings=given(inference_settings),
        compared=compared(inference_settings),
        architecture=architecture_run,
        library=lambda wildcards: library_of(wildcards.engine),
        engine_code=lambda wildcards: code_of_engine(wildcards.engine),
        protocol_code=code_of_protocol(CONFIG.measurement.protocol),
        code=code_of("run_inference.py"),
        format=format_of("inference"),
        tries=forward_tries,
    message:
        "Run {wildcards.model} with {wildcards.engine} in {wildcards.precision}, batches of {wildcards.batch}"
    script:
        "../scripts/run_inference.py"
