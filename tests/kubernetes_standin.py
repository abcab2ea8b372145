"""Snakemake's Kubernetes executor against a stand-in for the cluster, since there is none here.

    python tests/kubernetes_standin.py FOLDER [--run] SNAKEMAKE-ARGUMENTS

Every job that the executor would create is written to FOLDER as JSON, exactly as it would go to the API server. With
`--run` the stand-in then does what a node would: it runs the container's command in an empty folder of its own, with
nothing but the image's software (this environment) and the storage; without it the first job ends the run.

Files go to and from the storage by rsync, as on a real cluster; where it is not installed, by `rsync_standin.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import kubernetes.client
import kubernetes.config

FOLDER = Path(sys.argv[1]).resolve()
RUN = "--run" in sys.argv
ended: dict[str, int] = {}


class Batch:
    """The API of jobs."""

    def create_namespaced_job(self, namespace, body):
        manifest = kubernetes.client.ApiClient().sanitize_for_serialization(body)
        manifest = {"apiVersion": "batch/v1", "kind": "Job", **manifest}
        name = manifest["metadata"]["name"]
        (FOLDER / f"{name}.json").write_text(json.dumps(manifest, indent=1))
        if not RUN:
            os._exit(0)
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        with tempfile.TemporaryDirectory() as workdir, (FOLDER / f"{name}.log").open("w") as log:
            command = [*container["command"], *container["args"]]
            environment = {**os.environ, **{entry["name"]: os.environ[entry["name"]] for entry in container["env"]}}
            done = subprocess.run(command, cwd=workdir, env=environment, stdout=log, stderr=log, check=False)
        ended[name] = done.returncode
        return body

    def read_namespaced_job_status(self, name, namespace):
        failed = int(ended[name] != 0)
        return SimpleNamespace(status=SimpleNamespace(failed=failed, succeeded=1 - failed))

    def delete_namespaced_job(self, *arguments, **more):
        pass


class Core:
    """The API of pods and secrets."""

    def create_namespaced_secret(self, namespace, secret):
        (FOLDER / "environment").write_text(json.dumps(secret.data))

    def delete_namespaced_secret(self, *arguments, **more):
        pass

    def list_namespaced_pod(self, **more):
        return SimpleNamespace(items=[])


def offer_rsync() -> None:
    """Put the stand-in for rsync last on the path: one that is installed comes first."""
    program = FOLDER / "bin/rsync"
    program.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join([sys.executable, str(Path(__file__).resolve().with_name("rsync_standin.py"))])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], str(program.parent)])


def main() -> None:
    """Run Snakemake with the stand-in in place of the client."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    offer_rsync()
    kubernetes.config.load_kube_config = lambda *arguments, **more: None
    kubernetes.client.BatchV1Api = Batch
    kubernetes.client.CoreV1Api = Core
    from snakemake.cli import main as snakemake

    sys.argv = ["snakemake", *(argument for argument in sys.argv[2:] if argument != "--run")]
    snakemake()


if __name__ == "__main__":
    main()
