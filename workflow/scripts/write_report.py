"""Write a report: of all cells, or of one precision."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.report.render.markdown import write_report
from stagebench.report.rows import row_files

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        write_report(
            rows=row_files(snakemake.params.settings["rows"], snakemake.input.records),
            report=Path(snakemake.output.report),
            precision=snakemake.params.settings["precision"],
            notes=snakemake.params.settings["notes"],
        )
