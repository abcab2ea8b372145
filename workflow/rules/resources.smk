"""What jobs ask for: memory, run time, disk, the machine, a GPU, and how often they are tried. No rules."""

import math

# The machine's memory is the limit for jobs side by side, unless the command line gives another.
if not {"mem", "mem_mb", "mem_mib"} & set(workflow.global_resources):
    workflow.register_resource("mem_mb", identity.memory_mb())

# All units of the resource `machine`. A timed job takes all of them, every other job one.
WHOLE_MACHINE = 100
# The limits hold without a profile, too, and inside a job that runs several of a group's.
for name, limit in (("machine", WHOLE_MACHINE), ("gpu", 1)):
    if name not in workflow.global_resources:
        workflow.register_resource(name, limit)

# How often a job is tried. Set by `forward_tries`; forwarded to remote jobs.
_TRIES = "STAGEBENCH_TRIES"
os.environ.setdefault(_TRIES, "1")


envvars:
    "STAGEBENCH_TRIES",


def growing(amount):
    """A resource that grows with each attempt: `amount`, twice as much, and so on."""
    return lambda wildcards, attempt: amount * attempt


def images_of(wildcards):
    """How many images of the wildcards' data set are used."""
    entry = dataset_entry(wildcards)
    return entry.subset or entry.images


def growing_by_image(base, each):
    """A resource that grows with the images of the wildcards' data set, `each` of them, and with each attempt."""
    return lambda wildcards, attempt: attempt * math.ceil(
        base + each * images_of(wildcards)
    )


def timed_minutes(each, repeats):
    """The run time of a timed rule, growing with each attempt: `each` image of each of `measurement.{repeats}` passes.

    The minutes were measured on two CPU cores; a GPU takes a tenth at most. The rest is loading, warm-up and blocks.
    """

    def minutes(wildcards, attempt):
        passes = getattr(CONFIG.measurement, repeats)
        pace = each / 10 if gpus_of(wildcards) else each
        return attempt * math.ceil(15 + pace * images_of(wildcards) * passes)

    return minutes


def memory_of_batch(wildcards, attempt):
    """The memory of a timed job in MB, growing with each attempt: what its libraries take, and its batch."""
    return attempt * (4000 + 20 * int(wildcards.batch))


gpu_here = functools.cache(gpu.gpu_present)


@functools.cache
def has_gpu(name):
    """Whether a cluster's device has a GPU: the config gives its architecture, or `local` is to run engines for one."""
    if CONFIG.devices[name].compute_capability is not None:
        return True
    named = [engine for engine in CONFIG.cases.engines if engine != "auto"]
    return name == "local" and any(map(on_gpu, named))


def gpus_of(wildcards):
    """How many GPUs a job on a device asks for.

    Here only what runs on a GPU needs one. On a cluster a device that has a GPU is one with it, for every job:
    its record describes the card, and a job without it would find itself on other hardware.
    """
    if not runs_here():
        return int(has_gpu(wildcards.device))
    engine = getattr(wildcards, "engine", None)
    # torch takes the card if there is one.
    return int(on_gpu(engine) if engine else gpu_here())


def forward_tries(wildcards, input):
    """Set the variable that remote jobs inherit, and return it.

    A parameter of the rules that need it, for its effect: parameters are evaluated while the DAG is built, which is
    after the number of retries is known and before executors copy the environment.
    """
    if not workflow.remote_exec:
        retries = getattr(workflow.execution_settings, "retries", 0)
        os.environ[_TRIES] = str(1 + retries)
    return os.environ[_TRIES]


def tries_left(wildcards, attempt):
    """How often a scheduler would try a job again with more; never if jobs run here, whose memory is what it is."""
    return 0 if runs_here() else max(0, int(os.environ[_TRIES]) - attempt)
