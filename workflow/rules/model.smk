"""From weights to prepared ONNX files.

Takes: the config's `models`; <datasets>/{dataset}/manifest.csv for real images to fit, compare and calibrate with.
Leaves: <resources>/weights/{model}.pth and <results>/models/{model}/exported.onnx, simplified.onnx,
{onnx_variant}.onnx, each with its record.
"""

DEMO = [name for name, model in CONFIG.models.items() if model.weights == "demo"]


rule fetch_weights:
    output:
        weights="<resources>/weights/{model}.pth",
        record="<resources>/weights/{model}.json",
    log:
        "<logs>/fetch_weights/{model}.log",
    wildcard_constraints:
        model=any_of(set(CONFIG.models) - set(DEMO)),
    resources:
        machine=1,
        mem_mb=growing(2000),
        runtime=growing(30),
        disk_mb=growing(500),
    params:
        settings=given(checkpoint_settings),
        compared=compared(checkpoint_settings),
        files=owned(checkpoint_file),
        code=code_of("fetch_weights.py"),
        format=format_of("weights"),
    message:
        "Fetch the weights of {wildcards.model} and check their SHA-256"
    script:
        "../scripts/fetch_weights.py"


rule fit_demo_weights:
    input:
        manifest=of_dataset("manifest.csv"),
        dataset_record=ancient(of_dataset("dataset.json")),
        images=images_shipped,
    output:
        weights="<resources>/weights/{model}.pth",
        record="<resources>/weights/{model}.json",
    log:
        "<logs>/fit_demo_weights/{model}.log",
    wildcard_constraints:
        model=any_of(DEMO),
    threads: 8
    resources:
        machine=1,
        mem_mb=growing(3500),
        runtime=growing(15),
        disk_mb=growing(500),
    params:
        settings=given(model_settings),
        compared=compared(model_settings),
        architecture=architecture_of,
        code=code_of("fit_demo_weights.py"),
        format=format_of("weights"),
    message:
        "Fit the weights of {wildcards.model} to the fitting images"
    script:
        "../scripts/fit_demo_weights.py"


rule export_model:
    input:
        weights="<resources>/weights/{model}.pth",
        weights_record="<resources>/weights/{model}.json",
        manifest=of_dataset("manifest.csv"),
        dataset_record=ancient(of_dataset("dataset.json")),
        images=images_shipped,
    output:
        onnx="<results>/models/{model}/exported.onnx",
        record="<results>/models/{model}/exported.json",
    log:
        "<logs>/export_model/{model}.log",
    threads: 4
    resources:
        machine=1,
        mem_mb=growing(3000),
        runtime=growing(15),
        disk_mb=growing(500),
    params:
        settings=given(model_settings),
        compared=compared(model_settings),
        architecture=architecture_of,
        code=code_of("export_model.py"),
        format=format_of("exported"),
    message:
        "Export {wildcards.model} to ONNX and compare its outputs with torch's"
    script:
        "../scripts/export_model.py"


rule simplify_model:
    input:
        exported="<results>/models/{model}/exported.onnx",
        exported_record="<results>/models/{model}/exported.json",
        manifest=of_dataset("manifest.csv"),
        dataset_record=ancient(of_dataset("dataset.json")),
        images=images_shipped,
    output:
        onnx="<results>/models/{model}/simplified.onnx",
        record="<results>/models/{model}/simplified.json",
    log:
        "<logs>/simplify_model/{model}.log",
    threads: 4
    resources:
        machine=1,
        mem_mb=growing(2500),
        runtime=growing(15),
        disk_mb=growing(500),
    params:
        settings=given(simplification_settings),
        compared=compared(simplification_settings),
        code=code_of("simplify_model.py"),
        format=format_of("simplified"),
    message:
        "Simplify the ONNX file of {wildcards.model} and prove that its outputs are the same"
    script:
        "../scripts/simplify_model.py"


rule prepare_variant:
    input:
        simplified="<results>/models/{model}/simplified.onnx",
        simplified_record="<results>/models/{model}/simplified.json",
        weights="<resources>/weights/{model}.pth",
        weights_record="<resources>/weights/{model}.json",
        manifest=of_dataset("manifest.csv"),
        dataset_record=ancient(of_dataset("dataset.json")),
        images=images_shipped,
    output:
        onnx="<results>/models/{model}/{onnx_variant}.onnx",
        record="<results>/models/{model}/{onnx_variant}.json",
    log:
        "<logs>/prepare_variant/{model}/{onnx_variant}.log",
    threads: 4
    resources:
        machine=1,
        mem_mb=growing(5000),
        runtime=growing(30),
        disk_mb=growing(500),
    params:
        settings=given(variant_settings),
        compared=compared(variant_settings),
        files=owned(prepared_file),
        architecture=architecture_of,
        code=code_of("prepare_variant.py"),
        format=format_of("variant"),
    message:
        "Prepare the {wildcards.onnx_variant} file of {wildcards.model} and compare it with fp32"
    script:
        "../scripts/prepare_variant.py"
