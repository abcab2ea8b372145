"""A real Slurm of one node on this machine, without systemd and without cgroups, with a GPU that is only counted.

Everything it writes is in one folder, but for its two configuration files, which Slurm's tools look for in /etc/slurm.
They carry a mark; files without it belong to a real cluster, and nothing is started then.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CONFIGURATION = Path("/etc/slurm")
MARK = "# Made by Stagebench's tests; they delete it when they end.\n"
NODE = "node0"
POLICY = Path("/usr/sbin/policy-rc.d")


class ClusterError(Exception):
    """The cluster does not come up: the text says what to look at."""


def install() -> None:
    """Install Debian's packages where they are missing. The daemons that they bring are not started."""
    if all(shutil.which(name) for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue")):
        return
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    finally:
        if made:
            POLICY.unlink()


# What takes minutes on a machine whose other jobs go first: no test stands on how long it takes.
PATIENCE_S = 600.0


def until(what: str, condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait for a condition.

    Raises:
        ClusterError: it does not come true in that many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def output(*command: str) -> str:
    """Return what a command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def is_ours(path: Path) -> bool:
    """Say whether a configuration file was made here."""
    return path.is_file() and path.read_text().startswith(MARK)


@dataclass
class SlurmJob:
    """What Slurm says of a job, live or finished (`scontrol show job`)."""

    fields: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    @property
    def rule(self) -> str:
        """The rule, from the comment that the executor gives each job."""
        return re.sub(r"_wildcards_.*", "", self.fields["Comment"]).removeprefix("rule_")

    @property
    def interval(self) -> tuple[str, str]:
        """Start and end, in Slurm's time stamps, which sort as text."""
        return self.fields["StartTime"], self.fields["EndTime"]


@dataclass
class Cluster:
    """A running cluster; `folder` holds all that it writes."""

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def jobs(self) -> list[SlurmJob]:
        """Return every job since the cluster was started, in order."""
        found = []
        for line in output("scontrol", "show", "job", "--oneliner").splitlines():
            pairs = re.findall(r"(\S+?)=(.*?)(?= \S+?=|$)", line)
            if pairs and pairs[0][0] == "JobId":
                found.append(SlurmJob({name: value.strip() for name, value in pairs}))
        return sorted(found, key=lambda job: int(job["JobId"]))

    def start(self) -> None:
        """Start munged, slurmctld and slurmd, and wait until the node is idle."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge/key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self._configure()
        os.environ.pop("SLURM_CONF", None)
        socket = self.folder / "munge/socket"
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}-file={self.folder}/munge/{name}" for name in ("key", "pid", "log", "seed")),
            f"--socket={socket}",
        )
        until("munged", lambda: output("munge", "-n", f"--socket={socket}") != "", 10)
        self._daemon("slurmctld", "-D", "-i", "-f", str(CONFIGURATION / "slurm.conf"))
        until("slurmctld", lambda: "is UP" in output("scontrol", "ping"), 20)
        self._daemon("slurmd", "-D", "-f", str(CONFIGURATION / "slurm.conf"), "-N", NODE)
        try:
            until("the node", lambda: self.node_state() == "idle", 20)
        except ClusterError as error:
            logs = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))
            raise ClusterError(f"{error}\n{output('scontrol', 'show', 'node')}\n{logs}") from None

    def node_state(self) -> str:
        """Return the node's state as `sinfo` tells it."""
        return output("sinfo", "-h", "-n", NODE, "-o", "%T").strip()

    def stop(self) -> None:
        """Cancel what is left, end the daemons, and delete the configuration."""
        waiting = output("squeue", "-h", "-o", "%i").split()
        if waiting:
            output("scancel", *waiting)
            with contextlib.suppress(ClusterError):
                until("the queue", lambda: not output("squeue", "-h", "-o", "%i").split(), 15)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name in ("slurm.conf", "gres.conf"):
            if is_ours(CONFIGURATION / name):
                (CONFIGURATION / name).unlink()

    def _daemon(self, name: str, *arguments: str) -> None:
        """Start a daemon in the foreground, so that it is this process's child and ends by its id alone."""
        with (self.folder / f"{name}.out").open("wb") as file:
            self.daemons.append(subprocess.Popen([shutil.which(name) or name, *arguments], stdout=file, stderr=file))

    def _configure(self) -> None:
        for name in ("slurm.conf", "gres.conf"):
            path = CONFIGURATION / name
            if path.exists() and not is_ours(path):
                raise ClusterError(f"{path} belongs to a real cluster: run these tests on another machine")
        CONFIGURATION.mkdir(exist_ok=True)
        host = output("hostname", "-s").strip()
        memory = int(0.9 * psutil.virtual_memory().total / 2**20)
        # A device file that is no device: Slurm counts, schedules and announces the GPU, and nobody can use it.
        (CONFIGURATION / "gres.conf").write_text(
            f"{MARK}AutoDetect=off\nNodeName={NODE} Name=gpu Type=a100 File=/dev/null\n"
        )
        (CONFIGURATION / "slurm.conf").write_text(f"""{MARK}
ClusterName=stagebench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={self.folder}/munge/socket
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
# Finished jobs stay known to scontrol and squeue for as long as the tests run.
MinJobAge=3600
KillWait=5
OverTimeLimit=0
SlurmdTimeout=30
MessageTimeout=10
GresTypes=gpu
DefMemPerCPU=512
NodeName={NODE} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} Gres=gpu:a100:1
PartitionName=main Nodes={NODE} Default=YES MaxTime=INFINITE DefaultTime=5 State=UP
PartitionName=other Nodes={NODE} MaxTime=INFINITE DefaultTime=5 State=UP
""")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Yield a running cluster, and stop it again whatever happens."""
    install()
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
