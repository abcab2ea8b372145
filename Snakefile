"""ResNet-50 image classification, measured from the data set's archive to the report.

One rules file per stage, in pipeline order.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# Made by `docker build -t stagebench:0.1.0 .`; used only with `--sdm apptainer`.
container: "docker://stagebench:0.1.0"


# Limits on these hold for each machine, not for a whole cluster.
resource_scopes:
    gpu="local",
    machine="local",


include: "workflow/rules/common.smk"
include: "workflow/rules/staleness.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/engine.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report.md",
    localrule: True
    message:
        "The report is written: {input}"
