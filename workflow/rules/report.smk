"""From records to the table and the reports.

Takes: the records of every cell and of what it stands on; nothing else.
Leaves: results/table.csv, results/report.md and results/precision/{precision}.md.
"""


rule make_table:
    input:
        lambda wildcards: inputs_of(CONFIG.cases.precisions),
    output:
        table="results/table.csv",
    log:
        "logs/make_table.log",
    localrule: True
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
    params:
        rows=lambda wildcards: rows_of(CONFIG.cases.precisions),
        code=code_of("make_table.py"),
        format=FORMAT,
    message:
        "Collect the records of all cells into one table"
    script:
        "../scripts/make_table.py"


rule write_report:
    input:
        table="results/table.csv",
        records=lambda wildcards: inputs_of(CONFIG.cases.precisions),
        devices=lambda wildcards: list(devices_of(CONFIG.cases.precisions).values()),
    output:
        report="results/report.md",
    log:
        "logs/write_report.log",
    localrule: True
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
    params:
        rows=lambda wildcards: rows_of(CONFIG.cases.precisions),
        devices=lambda wildcards: devices_of(CONFIG.cases.precisions),
        notes=lambda wildcards: notes(),
        templates=digest_of_folder("workflow/report"),
        code=code_of("write_report.py"),
        format=FORMAT,
    message:
        "Write the report"
    script:
        "../scripts/write_report.py"


rule write_precision_report:
    input:
        records=lambda wildcards: inputs_of([wildcards.precision]),
        devices=lambda wildcards: list(devices_of([wildcards.precision]).values()),
    output:
        report="results/precision/{precision}.md",
    log:
        "logs/write_precision_report/{precision}.log",
    localrule: True
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing(100),
    params:
        rows=lambda wildcards: rows_of([wildcards.precision]),
        devices=lambda wildcards: devices_of([wildcards.precision]),
        notes=lambda wildcards: notes(),
        templates=digest_of_folder("workflow/report"),
        code=code_of("write_precision_report.py"),
        format=FORMAT,
    message:
        "Write the report of {wildcards.precision}"
    script:
        "../scripts/write_precision_report.py"
