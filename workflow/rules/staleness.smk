"""What a stage depends on in addition to its input files. No rules.

Each group is one parameter, a short text that says what it is: the settings that the config gives, the code that the
script reaches, the user's own files, the architecture, the format of the record that it writes and, where jobs run on
this machine, the library's version and the hardware. Snakemake compares parameters as a set of values without their
names, so swapping two plain numbers would rerun nothing; a digest over named settings changes with every name and
value. On a cluster library and hardware are not known here: a job refuses hardware other than its device record's.

The settings themselves go to the script as `settings`. A parameter that depends on `input` is not compared.
"""

import hashlib
import json
import time

from snakemake.io import IOFile

from stagebench.engines import registry
from stagebench.job import closure
from stagebench.records import io, kinds, reports
from stagebench.vocabulary import CHECKPOINT

_EDITION = re.compile(r"edition (\d+)")
# Clocks of machines that share a file system differ by as much.
_AHEAD_S = 60


def runs_here():
    """Whether jobs run on this machine, so that its hardware and libraries are theirs. Known once the DAG is built.

    A dry run plans for the executor that would run. Of that one Snakemake keeps only that jobs elsewhere are watched
    by threads, and if nothing is executed at all (`--summary`) that a number of nodes was given.
    """
    if workflow.remote_exec:
        return False
    plugin = workflow.executor_plugin
    if plugin is None:
        return workflow.resource_settings.nodes is None
    if plugin.common_settings.dryrun_exec or plugin.common_settings.touch_exec:
        return not workflow.execution_settings.use_threads
    return workflow.local_exec


def digest_of(named):
    """16 hexadecimal digits for a dictionary of plain values, names included."""
    text = json.dumps(named, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def given(settings):
    """The parameter that hands settings to the script: `settings` is a function of the wildcards."""
    return lambda wildcards, input: settings(wildcards)


def compared(settings):
    """The parameter that makes a stage stale when its settings change."""
    return lambda wildcards: f"settings {digest_of(settings(wildcards))}"


@functools.cache
def code_of(script):
    """The code that a script reaches."""
    return f"code {closure.closure_digest(SCRIPTS / script)}"


@functools.cache
def code_of_engine(name):
    """The code that an engine's module reaches: engines are found by name, not imported."""
    named = registry.module_of(name, CONFIG.engine_module(name))
    return f"engine code {closure.module_digest(named)}"


@functools.cache
def code_of_protocol(name):
    """The code that a protocol's module reaches, and that of the offline scenario: they are found by name, too."""
    named = [f"protocols.{name}", "scenarios.offline"]
    digests = {
        part: closure.module_digest(f"stagebench.measure.{part}") for part in named
    }
    return f"protocol code {digest_of(digests)}"


@functools.cache
def parts_of(architecture):
    """What an architecture is made of: a text, and the distributions whose versions count; or why that is unknown."""
    try:
        made = closure.made_of(architecture.replace(":", "."))
    except StagebenchError as error:
        return str(error), ()
    return f"architecture code {made.code or 'installed'}", made.distributions


def architecture_of(wildcards):
    """The code of the model's architecture, and versions of the distributions that this takes over.

    Versions are those of this machine, wherever jobs run: a model that is prepared here is not prepared anew for a
    cluster. An architecture that is not found is the job's to tell: other models go on.
    """
    code, distributions = parts_of(model_of(wildcards).architecture)
    found = io.versions(*distributions)
    return ", ".join([code, *(f"{library} {found[library]}" for library in found)])


def architecture_run(wildcards):
    """The same for an engine that is made from the checkpoint; others have the architecture in their model file."""
    if engine_of(wildcards.engine).variant(wildcards.precision) == CHECKPOINT:
        return architecture_of(wildcards)
    return "architecture in the model file"


@functools.cache
def templates():
    """The contents of the report's templates."""
    folder = Path(workflow.basedir) / "workflow" / "report"
    digests = {file.name: io.digest(file) for file in sorted(folder.iterdir())}
    return f"templates {digest_of(digests)}"


def format_of(kind):
    """The format of the records that a stage writes."""
    return f"format of {kind} {kinds.format_of(kind)}"


@functools.cache
def versions_of(name):
    """Versions of the libraries that an engine depends on, as they are installed here."""
    found = io.versions(*engine_of(name).distributions)
    return ", ".join(f"{library} {version}" for library, version in found.items())


def library_of(name):
    """Versions of the libraries that an engine depends on; unknown if only the job itself can know them."""
    return f"library {versions_of(name) if runs_here() else 'of the job'}"


identity_here = functools.cache(identity.identity)


def hardware_of(wildcards):
    """The kind of machine behind a device; unknown if only the job itself can know it."""
    absent = CONFIG.devices[wildcards.device].compute_capability
    if absent is not None:
        return f"hardware of compute capability {absent}"
    if not runs_here():
        return "hardware of the job"
    record = Path(place(f"<results>/devices/{wildcards.device}.json"))
    return f"hardware {identity.fingerprint_of_record(record, identity_here())}"


def edition_of_report(wildcards):
    """The edition of a report that Snakemake remembers, or the next if the report is not what it seems to be.

    Outputs are compared with nothing, so an edited one would stay; and a record that a failed run has deleted counts
    as missing only if something after it is to run. The number makes the report stale then, once.
    """
    precision = getattr(wildcards, "precision", None)
    stem = place(
        f"<results>/precision/{precision}" if precision else "<results>/report"
    )
    files = {"report": Path(f"{stem}.md")}
    if precision is None:
        files["table"] = Path(place("<results>/table.csv"))
    remembered = workflow.persistence.params(IOFile(f"{stem}.md")) or []
    numbers = [
        int(found[1]) for found in map(_EDITION.search, map(str, remembered)) if found
    ]
    sound = reports.as_written(Path(f"{stem}.json"), files, config_sha256()) and all(
        os.path.exists(place(path)) for path in row_records(wildcards)
    )
    return f"edition {max(numbers, default=1) + (0 if sound or not numbers else 1)}"


def refuse_dates_ahead():
    """End the run if a file that it reads is dated in the future, before anything is deleted.

    Snakemake fails each job whose output is older than an input, after it has run.
    """
    for job in workflow.dag.needrun_jobs():
        for file in map(Path, job.input):
            if file.exists() and file.stat().st_mtime > time.time() + _AHEAD_S:
                dated = time.strftime("%Y-%m-%d", time.localtime(file.stat().st_mtime))
                raise WorkflowError(
                    f"{file}: is dated {dated}, which is in the future; touch it, or correct the clock"
                )


def remove_due_reports():
    """Delete the reports that this run is to make, so that none of an earlier config stays if the run fails."""
    if workflow.touch:
        return
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in ("write_report", "write_precision_report"):
            for output in job.output:
                Path(output).unlink(missing_ok=True)
