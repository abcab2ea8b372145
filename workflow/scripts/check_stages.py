"""Fail if a row of the report failed."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.report.judge import require_no_failed_row

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        require_no_failed_row(Path(snakemake.input.record))
