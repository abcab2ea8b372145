"""Simplify an exported model."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.model.simplify import simplify_model
from stagebench.preprocessing import Preprocessing

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        simplify_model(
            exported=Path(snakemake.input.exported),
            exported_record=Path(snakemake.input.exported_record),
            out=Path(snakemake.output.onnx),
            record=Path(snakemake.output.record),
            preprocessing=Preprocessing.model_validate(snakemake.params.settings["preprocessing"]),
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
        )
