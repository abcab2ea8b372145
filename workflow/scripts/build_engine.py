"""Build an engine, or record why there is none."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.engines.build import BuildFiles, BuildSettings, build_engine
from stagebench.job import stage

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        build_engine(
            BuildSettings.model_validate(snakemake.params.settings),
            BuildFiles(
                source=stage.optional(snakemake.input.source),
                source_record=stage.optional(snakemake.input.source_record),
                device_record=Path(snakemake.input.device),
                engine=Path(snakemake.output.engine),
                record=Path(snakemake.output.record),
                cache_folder=Path(snakemake.params.caches),
            ),
            tries_left=snakemake.resources.tries_left,
            timeout_s=snakemake.params.timeout_s,
        )
