# The software of the workflow, for `snakemake --sdm apptainer` and for cluster nodes: docker build -t stagebench:0.1.0 .
# For TensorRT on NVIDIA GPUs build with --build-arg EXTRA=tensorrt (docs/gpu.md).
FROM python:3.11-slim-bookworm

# Empty, `tensorrt` or `tensorrt-cu12`: the extras of pyproject.toml.
ARG EXTRA=""
# Any value adds Snakemake's executors and what moves files on clusters without a shared file system (docs/cluster.md).
ARG CLUSTER=""

WORKDIR /opt/stagebench
COPY pyproject.toml LICENSE README.md ./
COPY requirements/runtime.txt requirements/cluster.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
RUN if [ -n "$EXTRA" ]; then \
      python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$EXTRA'], sep='\n')" > extra.txt \
      && pip install --no-cache-dir -r extra.txt; \
    fi

RUN if [ -n "$CLUSTER" ]; then \
      apt-get update && apt-get install -y --no-install-recommends rsync && rm -rf /var/lib/apt/lists/* \
      && pip install --no-cache-dir --require-hashes -r requirements/cluster.txt; \
    fi

COPY Snakefile ./
COPY config config
COPY profiles profiles
COPY workflow workflow
CMD ["snakemake", "--cores", "8", "results/report.md"]
