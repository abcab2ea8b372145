"""From records to the table and the reports.

Takes: the records of every cell and of what it is made from; nothing else.
Leaves: <results>/report.md with report.json and table.csv, <results>/precision/{precision}.md with its record, and
<results>/stages.passed if no row failed.
"""


# Nothing is lost to a wrong date, and no report of an earlier config stays if this run fails.
onstart:
    refuse_dates_ahead()
    remove_due_reports()


rule write_report:
    input:
        records=row_records,
    output:
        report="<results>/report.md",
        record="<results>/report.json",
        table="<results>/table.csv",
    log:
        "<logs>/write_report.log",
    localrule: True
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
    params:
        settings=given(report_settings),
        compared=compared(report_settings),
        templates=templates(),
        edition=edition_of_report,
        code=code_of("write_report.py"),
        format=format_of("report"),
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


use rule write_report as write_precision_report with:
    output:
        report="<results>/precision/{precision}.md",
        record="<results>/precision/{precision}.json",
    log:
        "<logs>/write_precision_report/{precision}.log",
    message:
        "Write the report of {wildcards.precision}"


rule check_stages:
    input:
        record="<results>/report.json",
    output:
        passed=touch("<results>/stages.passed"),
    log:
        "<logs>/check_stages.log",
    localrule: True
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
    params:
        code=code_of("check_stages.py"),
    message:
        "Check that no row failed"
    script:
        "../scripts/check_stages.py"
