# docker build -t obert-sweeps . && docker run --rm -v "$PWD/runs:/runs" obert-sweeps run table=1 store=/runs
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /opt/obert-sweeps

# The dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY obert_sweeps/__init__.py obert_sweeps/__init__.py
RUN mkdir conf && pip install -c constraints.txt . && pip uninstall -y obert-sweeps

COPY obert_sweeps obert_sweeps
COPY conf conf
RUN pip install --no-deps .

RUN useradd --create-home sweeper && mkdir /runs && chown sweeper /runs
USER sweeper
WORKDIR /home/sweeper
ENTRYPOINT ["obert-sweeps"]
CMD ["--help"]
