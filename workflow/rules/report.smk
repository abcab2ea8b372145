"""From records to the table and the reports.

Takes: the records of every cell and of what it is made from; nothing else.
Leaves: <results>/table.csv, <results>/report.md and <results>/precision/{precision}.md.
"""


rule make_table:
    input:
        records=row_records,
    output:
        table="<results>/table.csv",
    log:
        "<logs>/make_table.log",
    localrule: True
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
    params:
        settings=given(row_settings),
        compared=compared(row_settings),
        code=code_of("make_table.py"),
    message:
        "Collect the records of all cells into one table"
    script:
        "../scripts/make_table.py"


rule write_report:
    input:
        records=row_records,
        # Not read: the report of all cells comes with its table.
        table="<results>/table.csv",
    output:
        report="<results>/report.md",
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
        code=code_of("write_report.py"),
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


use rule write_report as write_precision_report with:
    input:
        records=row_records,
    output:
        report="<results>/precision/{precision}.md",
    log:
        "<logs>/write_precision_report/{precision}.log",
    message:
        "Write the report of {wildcards.precision}"
