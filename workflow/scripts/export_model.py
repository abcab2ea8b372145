"""Export a model to ONNX."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.model.export import export_model
from stagebench.preprocessing import Preprocessing

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        export_model(
            weights=Path(snakemake.input.weights),
            weights_record=Path(snakemake.input.weights_record),
            out=Path(snakemake.output.onnx),
            record=Path(snakemake.output.record),
            architecture=snakemake.params.settings["architecture"],
            preprocessing=Preprocessing.model_validate(snakemake.params.settings["preprocessing"]),
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
        )
