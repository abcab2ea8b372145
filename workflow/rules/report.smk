"""From records to the table and the reports.

Takes: the records of every cell and of what it stands on; nothing else.
Leaves: results/table.csv, results/report.md and results/precision/{precision}.md.
"""


def reference_precision(precision):
    """What a precision is validated against: torch has no int8 or fp8 of its own."""
    return "fp32" if precision in ("int8", "fp8") else precision


def records_of(cell):
    """The records on a cell's way from the archive to its figures, by stage; None for a stage that it does not need."""
    model = CONFIG.models[cell.model]
    dataset = f"results/datasets/{model.dataset}"
    models = f"results/models/{cell.model}"
    variant = engines.get(cell.engine).variant(cell.precision)
    from_onnx = variant != "weights"
    pixels = CONFIG.datasets[model.dataset].pixels
    place = f"{cell.precision}/batch{cell.batch}.json"
    reference = f"{reference_precision(cell.precision)}/batch{cell.batch}.json"
    return {
        "dataset": f"{dataset}/dataset.json",
        "pixels": (
            f"{dataset}/pixels/{model.preprocessing.recipe(DECODER)}.json"
            if pixels
            else None
        ),
        "weights": f"resources/weights/{cell.model}.json",
        "exported": f"{models}/exported.json" if from_onnx else None,
        "simplified": f"{models}/simplified.json" if from_onnx else None,
        "variant": f"{models}/{variant}.json" if from_onnx else None,
        "engine": f"results/engines/{cell.device}/{cell.model}/{cell.engine}/{place}",
        "validation": f"results/validation/{cell.device}/{cell.model}/{reference}",
        "inference": f"results/inference/{cell.device}/{cell.model}/{cell.engine}/{place}",
    }


def rows_of(precisions):
    """What the report's functions take for each cell: its name and its records."""
    return [
        {"cell": cell._asdict(), "records": records_of(cell)}
        for cell in cells_of(precisions)
    ]


def inputs_of(precisions):
    """Every record that the rows with these precisions need, each once."""
    return list(
        dict.fromkeys(
            path
            for row in rows_of(precisions)
            for path in row["records"].values()
            if path
        )
    )


def devices_of(precisions):
    """The record of each device that the rows name."""
    return {
        cell.device: f"results/devices/{cell.device}.json"
        for cell in cells_of(precisions)
    }


rule make_table:
    input:
        lambda wildcards: inputs_of(CONFIG.cases.precisions),
    output:
        table="results/table.csv",
    log:
        "logs/make_table.log",
    localrule: True
    resources:
        mem_mb=500,
    params:
        rows=lambda wildcards: rows_of(CONFIG.cases.precisions),
        code=code_of("make_table.py"),
        format=FORMAT,
    message:
        "Collect the records of all cells into one table"
    script:
        "../scripts/make_table.py"


rule write_report:
    input:
        table="results/table.csv",
        records=lambda wildcards: inputs_of(CONFIG.cases.precisions),
        devices=lambda wildcards: list(devices_of(CONFIG.cases.precisions).values()),
    output:
        report="results/report.md",
    log:
        "logs/write_report.log",
    localrule: True
    resources:
        mem_mb=500,
    params:
        rows=lambda wildcards: rows_of(CONFIG.cases.precisions),
        devices=lambda wildcards: devices_of(CONFIG.cases.precisions),
        notes=lambda wildcards: notes(),
        templates=digest_of_folder("workflow/report"),
        code=code_of("write_report.py"),
        format=FORMAT,
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


rule write_precision_report:
    input:
        records=lambda wildcards: inputs_of([wildcards.precision]),
        devices=lambda wildcards: list(devices_of([wildcards.precision]).values()),
    output:
        report="results/precision/{precision}.md",
    log:
        "logs/write_precision_report/{precision}.log",
    localrule: True
    resources:
        mem_mb=500,
    params:
        rows=lambda wildcards: rows_of([wildcards.precision]),
        devices=lambda wildcards: devices_of([wildcards.precision]),
        notes=lambda wildcards: notes(),
        templates=digest_of_folder("workflow/report"),
        code=code_of("write_precision_report.py"),
        format=FORMAT,
    message:
        "Write the report of {wildcards.precision}"
    script:
        "../scripts/write_precision_report.py"
