"""Prepare a model file whose tensor types are a precision."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.model.variants import prepare_variant
from stagebench.preprocessing import Preprocessing
from stagebench.quantisation import QuantisationSettings

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        settings = snakemake.params.settings
        prepare_variant(
            onnx_variant=snakemake.wildcards.onnx_variant,
            simplified=Path(snakemake.input.simplified),
            simplified_record=Path(snakemake.input.simplified_record),
            out=Path(snakemake.output.onnx),
            record=Path(snakemake.output.record),
            weights=Path(snakemake.input.weights),
            weights_record=Path(snakemake.input.weights_record),
            architecture=settings["architecture"],
            preprocessing=Preprocessing.model_validate(settings["preprocessing"]),
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
            **settings.get("prepared", {}),
            quantisation=QuantisationSettings.model_validate(settings.get("quantization", {})),
        )
