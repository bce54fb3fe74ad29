# docker build -t obert-sweeps . && docker run --rm -v "$PWD/runs:/runs" obert-sweeps obert-sweeps run table=1 store=/runs
# No entrypoint: KubeRay and Ray's cluster launcher start Ray in it by commands of their own.
FROM python:3.11-slim

# wget: KubeRay's health probes; rsync: Ray's cluster launcher brings files into the container.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends procps rsync wget \
 && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
# A node that the network has lost ends itself after two minutes, not ten.
ENV RAY_grpc_client_keepalive_time_ms=30000 RAY_grpc_client_keepalive_timeout_ms=10000
WORKDIR /opt/obert-sweeps

# The dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY obert_sweeps/__init__.py obert_sweeps/__init__.py
RUN mkdir conf launchers && pip install -c constraints.txt '.[deploy,cluster,s3]' \
 && pip uninstall -y obert-sweeps

COPY obert_sweeps obert_sweeps
COPY conf conf
COPY launchers launchers
RUN pip install --no-deps .

RUN useradd --create-home --uid 1000 sweeper && mkdir /runs && chown sweeper /runs
USER sweeper
WORKDIR /home/sweeper
CMD ["obert-sweeps", "--help"]
