"""From weights to prepared ONNX files.

Takes: the config's `models`; results/datasets/{dataset}/manifest.csv for real images to fit, compare and calibrate with.
Leaves: resources/weights/{model}.pth and results/models/{model}/exported.onnx, simplified.onnx, {variant}.onnx, each
with its record.
"""

DEMO = [name for name, model in CONFIG.models.items() if model.weights == "demo"]


rule fetch_weights:
    output:
        weights="resources/weights/{model}.pth",
        record="resources/weights/{model}.json",
    log:
        "logs/fetch_weights/{model}.log",
    wildcard_constraints:
        model=any_of(set(CONFIG.models) - set(DEMO)),
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        disk_mb=growing(500),
    params:
        url=lambda wildcards: model_of(wildcards).weights.url,
        file=lambda wildcards: model_of(wildcards).weights.file,
        sha256=lambda wildcards: model_of(wildcards).weights.sha256,
        architecture=architecture_of,
        code=code_of("fetch_weights.py"),
        format=FORMAT,
    message:
        "Fetch the weights of {wildcards.model} and check their SHA-256"
    script:
        "../scripts/fetch_weights.py"


rule fit_demo_weights:
    input:
        manifest=of_dataset("results/datasets/{dataset}/manifest.csv"),
        dataset_record=of_dataset("results/datasets/{dataset}/dataset.json"),
        images=images_shipped,
    output:
        weights="resources/weights/{model}.pth",
        record="resources/weights/{model}.json",
    log:
        "logs/fit_demo_weights/{model}.log",
    wildcard_constraints:
        model=any_of(DEMO),
    threads: 8
    resources:
        mem_mb=growing(3500),
        runtime=growing(15),
        disk_mb=growing(500),
    params:
        architecture=architecture_of,
        preprocessing=preprocessing_of,
        code=code_of("fit_demo_weights.py"),
        format=FORMAT,
    message:
        "Fit the weights of {wildcards.model} to the fitting images"
    script:
        "../scripts/fit_demo_weights.py"


rule export_model:
    input:
        weights="resources/weights/{model}.pth",
        weights_record="resources/weights/{model}.json",
        manifest=of_dataset("results/datasets/{dataset}/manifest.csv"),
        images=images_shipped,
    output:
        onnx="results/models/{model}/exported.onnx",
        record="results/models/{model}/exported.json",
    log:
        "logs/export_model/{model}.log",
    threads: 4
    resources:
        mem_mb=growing(3000),
        runtime=growing(15),
        disk_mb=growing(500),
    params:
        architecture=architecture_of,
        preprocessing=preprocessing_of,
        code=code_of("export_model.py"),
        format=FORMAT,
    message:
        "Export {wildcards.model} to ONNX and compare its outputs with torch's"
    script:
        "../scripts/export_model.py"


rule simplify_model:
    input:
        exported="results/models/{model}/exported.onnx",
        exported_record="results/models/{model}/exported.json",
        manifest=of_dataset("results/datasets/{dataset}/manifest.csv"),
        images=images_shipped,
    output:
        onnx="results/models/{model}/simplified.onnx",
        record="results/models/{model}/simplified.json",
    log:
        "logs/simplify_model/{model}.log",
    threads: 4
    resources:
        mem_mb=growing(2500),
        runtime=growing(15),
        disk_mb=growing(500),
    params:
        preprocessing=preprocessing_of,
        code=code_of("simplify_model.py"),
        format=FORMAT,
    message:
        "Simplify the ONNX file of {wildcards.model} and prove that its outputs are the same"
    script:
        "../scripts/simplify_model.py"


rule prepare_variant:
    input:
        simplified="results/models/{model}/simplified.onnx",
        simplified_record="results/models/{model}/simplified.json",
        weights="resources/weights/{model}.pth",
        weights_record="resources/weights/{model}.json",
        manifest=of_dataset("results/datasets/{dataset}/manifest.csv"),
        images=images_shipped,
    output:
        onnx="results/models/{model}/{variant}.onnx",
        record="results/models/{model}/{variant}.json",
    log:
        "logs/prepare_variant/{model}/{variant}.log",
    threads: 4
    resources:
        mem_mb=growing(5000),
        runtime=growing(30),
        disk_mb=growing(500),
    params:
        architecture=architecture_of,
        preprocessing=preprocessing_of,
        code=code_of("prepare_variant.py"),
        format=FORMAT,
    message:
        "Prepare the {wildcards.variant} file of {wildcards.model} and compare it with fp32"
    script:
        "../scripts/prepare_variant.py"
