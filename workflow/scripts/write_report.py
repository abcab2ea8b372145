"""Write a report with its table: of all cells, or of one precision."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.report.rows import row_files
from stagebench.report.settings import ReportSettings
from stagebench.report.write import ReportFiles, write_report

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        write_report(
            rows=row_files(snakemake.params.settings["rows"], snakemake.input.records),
            files=ReportFiles(
                report=Path(snakemake.output.report),
                record=Path(snakemake.output.record),
                table=stage.optional(snakemake.output.get("table", "")),
            ),
            settings=ReportSettings.model_validate(snakemake.params.settings["report"]),
        )
