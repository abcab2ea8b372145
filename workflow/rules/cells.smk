"""Which files belong to a cell, and which cells there are. No rules.

A cell is device x model x engine x precision x batch size: a row of the report.
"""

from stagebench.vocabulary import CHECKPOINT
from stagebench.vocabulary import precision as precision_named


def cell_of(wildcards, engine=None):
    """The cell that the wildcards name, as plain values; `engine` for rules whose paths name none."""
    return {
        "device": wildcards.device,
        "model": wildcards.model,
        "engine": engine or wildcards.engine,
        "precision": wildcards.precision,
        "batch": int(wildcards.batch),
    }


def model_file(model, engine, precision):
    """The file that an engine is built from, without its ending; None if it has none for the precision."""
    onnx_variant = engine_of(engine).variant(precision)
    if onnx_variant is None:
        return None
    if onnx_variant == CHECKPOINT:
        return f"<resources>/weights/{model}"
    return f"<results>/models/{model}/{onnx_variant}"


def engine_source(wildcards):
    """The model file that an engine is built from; nothing if it has none for the precision."""
    stem = model_file(wildcards.model, wildcards.engine, wildcards.precision)
    if stem is None:
        return []
    return f"{stem}.pth" if stem.startswith("<resources>") else f"{stem}.onnx"


def engine_source_record(wildcards):
    """The record of that file."""
    stem = model_file(wildcards.model, wildcards.engine, wildcards.precision)
    return [] if stem is None else f"{stem}.json"


def linked_manifest(wildcards):
    """The manifest of a linked folder, for a job that does not read it.

    Once a checkpoint has run, Snakemake reconsiders only the jobs that name its output.
    """
    return (
        of_dataset("manifest.csv")(wildcards)
        if dataset_entry(wildcards).is_folder
        else []
    )


def pixels_of(suffix):
    """An input function: the decoded images of the model's data set, or nothing if they are not kept."""

    def chosen(wildcards):
        if not dataset_entry(wildcards).pixels:
            return []
        recipe = model_of(wildcards).preprocessing.recipe(DECODER)
        return f"<datasets>/{dataset_of(wildcards)}/pixels/{recipe}{suffix}"

    return chosen


def records_of(cell):
    """The records on a cell's way from the archive to its figures, by stage; None for a stage that it does not need."""
    model = CONFIG.models[cell.model]
    source = model_file(cell.model, cell.engine, cell.precision)
    from_onnx = source is not None and source.startswith("<results>")
    dataset = f"<datasets>/{model.dataset}"
    models = f"<results>/models/{cell.model}"
    run = f"{cell.device}/{cell.model}"
    own = f"{run}/{cell.engine}/{cell.precision}/batch{cell.batch}.json"
    reference = precision_named(cell.precision).reference
    recipe = model.preprocessing.recipe(DECODER)
    kept = CONFIG.datasets[model.dataset].pixels
    return {
        "dataset": f"{dataset}/dataset.json",
        "pixels": f"{dataset}/pixels/{recipe}.json" if kept else None,
        "weights": f"<resources>/weights/{cell.model}.json",
        "exported": f"{models}/exported.json" if from_onnx else None,
        "simplified": f"{models}/simplified.json" if from_onnx else None,
        "variant": f"{source}.json" if from_onnx else None,
        "engine": f"<results>/engines/{own}",
        "validation": f"<results>/validation/{run}/{reference}/batch{cell.batch}.json",
        "inference": f"<results>/inference/{own}",
    }


def rows_of(precisions):
    """What the report takes for each cell with these precisions: its name, its records, and their settings."""
    cells = configuration.cells(CONFIG, engine_names(), precisions)
    rows = []
    for cell in cells:
        records = records_of(cell)
        settings = {
            stage: settings_of(stage, cell) for stage in filter(records.get, records)
        }
        rows.append(
            {
                "cell": cell.model_dump(mode="json"),
                "records": records,
                "settings": settings,
            }
        )
    return rows


def records_needed(precisions):
    """Every record that the rows with these precisions need, each once."""
    paths = (path for row in rows_of(precisions) for path in row["records"].values())
    return list(dict.fromkeys(filter(None, paths)))
