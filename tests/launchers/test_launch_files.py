"""What `launch` prints: good files of their kinds, that end in the request that was made."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from obert_sweeps.cli.door import main
from obert_sweeps.request.read import read

REQUEST = ["table=[1,4]", "cells='t1/*'", "seeds=2", "tracker=none", "cluster.cpus_per_stage=2"]
IMAGE = "cluster.launch.image=registry.example/obert-sweeps:1"
BUCKET = "store=s3://bucket/runs"
HERE = Path(__file__).resolve().parent


def launch(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = main(["launch", *words])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = main(list(words))
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    return captured.err


def run_of(line: str) -> list[str]:
    """The words of the run in a line of a launch file."""
    words = shlex.split(line)
    start = words.index("obert-sweeps")
    assert words[start + 1] == "run"
    return [word for word in words[start + 2 :] if word != "&"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        [
            "cluster.launch.gpus_per_node=0", "cluster.launch.memory_gb=256",
            "cluster.launch.partition=cpu", "cluster.launch.account=a",
            "cluster.launch.setup=/shared/modules.sh", "cluster.launch.environment=/shared/venv",
            "cluster.launch.image=/shared/obert.sif", "store=/shared/runs",
        ],
    ],
)  # fmt: skip
def test_the_batch_file_is_good_shell(capsys, tmp_path, words) -> None:
    text = launch(capsys, "cluster=slurm", *REQUEST, *words)
    file = tmp_path / "sweep.sbatch"
    file.write_text(text)
    checked = subprocess.run(["bash", "-n", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    shellcheck = Path(sys.executable).with_name("shellcheck")  # of the extra `dev`
    checked = subprocess.run([shellcheck, file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    first, *rest = text.splitlines()
    assert first == "#!/usr/bin/env bash"
    directives = [n for n, line in enumerate(rest) if line.startswith("#SBATCH")]
    code = next(n for n, line in enumerate(rest) if line and not line.startswith("#"))
    assert max(directives) < code, "Slurm reads none after the first command"
    assert "{{" not in text and "{%" not in text


def test_what_was_asked_of_slurm_is_in_its_directives(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = launch(
        capsys, "cluster=slurm", "cluster.launch.nodes=4", "cluster.launch.time=2-00:00:00",
        "cluster.launch.gpus_per_node=4", "cluster.launch.partition=a100",
    )  # fmt: skip
    said = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in text.splitlines()
        if line.startswith("#SBATCH --")
    )
    assert (said["nodes"], said["gpus-per-node"], said["time"]) == ("4", "4", "2-00:00:00")
    assert said["partition"] == "a100" and said["chdir"] == str(tmp_path)
    assert said["signal"] == "B:USR1@120" and "requeue" in said and "account" not in said


def test_the_run_inside_is_the_request_and_composes(capsys) -> None:
    text = launch(capsys, "cluster=slurm", *REQUEST, "cluster.launch.nodes=3", "store=a b/runs")
    (line,) = [part for part in text.splitlines() if "obert-sweeps run" in part]
    words = run_of(line)
    assert words[:4] == ["table=[1,4]", "cells='t1/*'", "seeds=2", "tracker=none"]
    loaded = read(words)
    cluster = loaded.request.cluster
    assert (cluster.address, cluster.wait_for_nodes, cluster.cpus_per_stage) == ("auto", 3, 2)
    assert cluster.gpus_per_stage == 1 and "launch" not in cluster
    assert loaded.request.store == "a b/runs" and loaded.request.cells == "t1/*"


def test_texts_that_hydra_would_read_otherwise_are_quoted_for_it(capsys) -> None:
    said = ["store='/data/é, ü/runs'", "cluster.scratch='/tmp/é'", "cells='t1/*'", "data_root=/d=1"]
    text = launch(capsys, "cluster=slurm", *said)
    (line,) = [part for part in text.splitlines() if "obert-sweeps run" in part]
    request = read(run_of(line)).request
    assert (request.store, request.data_root) == ("/data/é, ü/runs", "/d=1")
    assert request.cluster.scratch == "/tmp/é"


def test_a_node_without_gpus_runs_stages_without(capsys) -> None:
    text = launch(capsys, "cluster=slurm", "cluster.launch.gpus_per_node=0")
    assert "gpus-per-node" not in text and "cluster.gpus_per_stage=0" in text


# What of these APIs a file may hold, by the published types: KubeRay's rayjob_types.go and
# raycluster_types.go, and Kubernetes' PodSpec; all of it strict, as `kubectl --validate=strict` is.
RAY_JOB = json.loads((HERE / "rayjob.schema.json").read_text())


@pytest.mark.parametrize(
    "words",
    [
        [BUCKET],
        ["cluster.launch.claim=sweeps", "cluster.launch.gpus_per_worker=0"],
        [
            BUCKET,
            "cluster.launch.secret=keys",
            "cluster.launch.queue=q",
            "cluster.launch.workers=8",
        ],
        [BUCKET, "cluster.launch.deadline_seconds=86400"],
    ],
)
def test_the_ray_job_is_one_by_kuberays_types(capsys, words) -> None:
    job = yaml.safe_load(launch(capsys, "cluster=kuberay", IMAGE, *REQUEST, *words))
    jsonschema.validate(job, RAY_JOB, jsonschema.Draft202012Validator)
    spec = job["spec"]
    assert spec["backoffLimit"] == 3 and spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] == 600
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__ and cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    request = read(run_of(spec["entrypoint"])).request
    assert request.cluster.wait_for_nodes == group["replicas"] + 1
    for template in (cluster["headGroupSpec"]["template"], group["template"]):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert ("store" in volumes) == ("cluster.launch.claim=sweeps" in words)
    if "cluster.launch.claim=sweeps" in words:
        assert request.store == "/runs" and request.cluster.gpus_per_stage == 0


def test_the_schema_of_ray_jobs_refuses_what_kubernetes_would(capsys) -> None:
    job = yaml.safe_load(launch(capsys, "cluster=kuberay", IMAGE, BUCKET))

    def spoil(change: Any) -> None:
        spoilt = json.loads(json.dumps(job))
        change(spoilt["spec"])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, RAY_JOB, jsonschema.Draft202012Validator)

    spoil(lambda spec: spec.update(backofflimit=3))
    spoil(lambda spec: spec.update(backoffLimit="3"))
    spoil(lambda spec: spec["rayClusterSpec"].pop("headGroupSpec"))
    spoil(lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].pop("maxReplicas"))
    spoil(lambda spec: spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update(x=0))


@pytest.mark.parametrize(
    "words", [[BUCKET], ["cluster.launch.mount=/mnt/nfs", "cluster.launch.spot=true"]]
)
def test_the_rented_cluster_is_one_by_rays_schema(capsys, words) -> None:
    text = launch(capsys, "cluster=ray", IMAGE, *REQUEST, *words)
    config = yaml.safe_load(text)
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(config, json.loads(schema.read_text()))
    types = config["available_node_types"]
    assert config["head_node_type"] in types
    assert types["workers"]["max_workers"] == config["max_workers"] == 4
    (line,) = [
        part for part in text.splitlines() if "ray exec" in part and "obert-sweeps run" in part
    ]
    request = read(run_of(shlex.split(line.lstrip("# "))[-1])).request
    assert request.cluster.wait_for_nodes == types["workers"]["min_workers"] + 1
    assert request.store == (
        "/mnt/nfs" if "cluster.launch.mount=/mnt/nfs" in words else "s3://bucket/runs"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["launch"], "cluster=slurm"),
        (["launch", "cluster=slurm", "cells=t9/*"], "t9/*"),
        (["launch", "cluster=slurm", "cluster.launch.nodess=2"], "nodess"),
        (["launch", "cluster=slurm", "cluster.launch.nodes=two"], "cluster.launch.nodes"),
        (["launch", "cluster=slurm", "cluster.launch.nodes=0"], "at least 1"),
        (["launch", "cluster=slurm", "cluster.launch.name='a;b'"], "cluster.launch.name"),
        (
            ["launch", "cluster=slurm", "cluster.launch.partition='x\ny'"],
            "cluster.launch.partition",
        ),
        (["launch", "cluster=slurm", "cluster.gpus_per_stage=16"], "a node has 8"),
        (["launch", "cluster=slurm", "cluster.launch.file=other"], "slurm.sbatch"),
        (["launch", "cluster=kuberay", BUCKET], "cluster.launch.image"),
        (["launch", "cluster=kuberay", IMAGE], "claim="),
        (["launch", "cluster=kuberay", IMAGE, "store=runs", "cluster.launch.claim=c"], "/runs"),
        (["launch", "cluster=kuberay", IMAGE, BUCKET, "data_root=data"], "data_root"),
        (["launch", "cluster=ray", IMAGE, "store=/runs"], "mount="),
        (["run", "cluster=slurm"], "obert-sweeps launch"),
    ],
)
def test_a_wrong_launch_is_refused_with_the_way_to_say_it(capsys, words, says) -> None:
    assert says in refused(capsys, *words)
