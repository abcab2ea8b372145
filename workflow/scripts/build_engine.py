"""Build an engine, or record why there is none."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.engines.build import build_engine

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        build_engine(
            engine=snakemake.wildcards.engine,
            source=Path(snakemake.input.source),
            source_record=Path(snakemake.input.source_record),
            device_record=Path(snakemake.input.device),
            out=Path(snakemake.output.engine),
            record=Path(snakemake.output.record),
            precision=snakemake.wildcards.precision,
            batch=int(snakemake.wildcards.batch),
            model=snakemake.wildcards.model,
            architecture=snakemake.params.architecture,
            preprocessing=snakemake.params.preprocessing,
            options=snakemake.params.options,
            cache_folder=Path("results/engines") / snakemake.wildcards.device / "caches",
            tries_left=snakemake.resources.tries_left,
        )
