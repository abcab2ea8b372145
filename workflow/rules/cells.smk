"""Which files belong to a cell, and which cells there are. No rules.

A cell is device x model x engine x precision x batch size: a row of the report.
"""


def engine_source(wildcards):
    """The model file that an engine is built from."""
    variant = engine_of(wildcards.engine).variant(wildcards.precision)
    if variant == "weights":
        return f"resources/weights/{wildcards.model}.pth"
    return f"results/models/{wildcards.model}/{variant}.onnx"


# All units of the resource `machine`, of which every job that is not timed takes one (profiles/default).
WHOLE_MACHINE = 100
# The limits of profiles/default hold without it, too, and inside a job that runs several of a group's.
for name, limit in (("machine", WHOLE_MACHINE), ("gpu", 1)):
    if name not in workflow.global_resources:
        workflow.register_resource(name, limit)


def cell_of(wildcards):
    """The wildcards that name a cell, as plain values."""
    named = {
        key: getattr(wildcards, key)
        for key in ("device", "model", "engine", "precision")
        if hasattr(wildcards, key)
    }
    return named | {"batch": int(wildcards.batch)}


def pixels_of(suffix):
    """An input function: the decoded pixels of the model's data set, or nothing where they are switched off."""

    def chosen(wildcards):
        if not dataset_entry(wildcards).pixels:
            return []
        recipe = model_of(wildcards).preprocessing.recipe(DECODER)
        return f"results/datasets/{dataset_of(wildcards)}/pixels/{recipe}{suffix}"

    return chosen


def reference_precision(precision):
    """What a precision is validated against: torch has no int8 or fp8 of its own."""
    return "fp32" if precision in ("int8", "fp8") else precision


def records_of(cell):
    """The records on a cell's way from the archive to its figures, by stage; None for a stage that it does not need."""
    model = CONFIG.models[cell.model]
    dataset = f"results/datasets/{model.dataset}"
    models = f"results/models/{cell.model}"
    variant = engine_of(cell.engine).variant(cell.precision)
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
