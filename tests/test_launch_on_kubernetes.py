"""launch/kubernetes/: the objects are valid, and their pods start what they should.

The schemas of Kubernetes come with the package kubernetes-validate. That of JobSets does not: with
BRATS_JOBSET_CRD=FILE, its jobset.x-k8s.io_jobsets.yaml, jobset.yaml is checked against it, too.
"""

import os
import re

import jsonschema
import kubernetes_pods
import kubernetes_validate
import pytest
import yaml
from processes import ROOT

from brats_jax.errors import BratsError
from brats_jax.runtime import distributed

FOLDER = ROOT / "launch" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
TRAININGS = ("folds.yaml", "nodes.yaml", "jobset.yaml")
OLDEST = "1.29"  # that the files name


def flags_of(pod):
    assert pod.command[:3] == ["python", "-m", "brats_jax.main"]
    return dict(word.removeprefix("--").split("=", 1) for word in pod.command[3:])


def objects(file):
    """The file's objects, and for a JobSet the jobs that its controller makes."""
    found = [d for d in kubernetes_pods.documents(file) if d["kind"] != "JobSet"]
    if not found:
        found = [
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
            for name, _, spec in kubernetes_pods.jobs(file)[:1]
        ]
    return found


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_object_is_valid(file, version):
    for document in objects(file):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_is_invalid():
    document = objects(FOLDER / "folds.yaml")[0]
    document["spec"]["backofLimitPerIndex"] = 6
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimitPerIndex"):
        kubernetes_validate.validate(document, OLDEST, strict=True)


@pytest.mark.skipif("BRATS_JOBSET_CRD" not in os.environ, reason="BRATS_JOBSET_CRD names no file")
def test_the_jobset_is_valid():
    with open(os.environ["BRATS_JOBSET_CRD"]) as file:
        versions = yaml.safe_load(file)["spec"]["versions"]
    (document,) = kubernetes_pods.documents(FOLDER / "jobset.yaml")
    name = document["apiVersion"].partition("/")[2]
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == name)
    jsonschema.validate(document, closed(schema))


def closed(schema):
    """A schema that refuses unknown fields, as the API server does with --validate=strict."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def test_a_pod_for_each_fold():
    pods = kubernetes_pods.pods(FOLDER / "folds.yaml")
    assert [flags_of(pod)["config.folds"] for pod in pods] == list("01234")


@pytest.mark.parametrize("name", ["nodes.yaml", "jobset.yaml"])
def test_the_pods_of_a_fold_name_the_first_one_and_their_number(name):
    folds = {}
    for pod in kubernetes_pods.pods(FOLDER / name):
        folds.setdefault(flags_of(pod)["config.folds"], []).append(pod)
    assert list(folds) == (["0"] if name == "nodes.yaml" else list("01234"))
    first = set()
    for pods in folds.values():
        given = [flags_of(pod) for pod in pods]
        assert {f["num_processes"] for f in given} == {str(len(pods))} == {"2"}
        assert [f["process_id"] for f in given] == ["0", "1"]
        (coordinator,) = {f["coordinator"] for f in given}
        host, _, port = coordinator.partition(":")
        assert [host] == pods[0].hosts
        (published,) = pods[0].spec["containers"][0]["ports"]
        assert published["containerPort"] == int(port)
        first.add(host)
    assert len(first) == len(folds)


def test_the_service_of_the_nodes_selects_their_job():
    service, job = kubernetes_pods.documents(FOLDER / "nodes.yaml")
    label = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert service["spec"]["selector"] == label and service["spec"]["clusterIP"] == "None"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]


@pytest.mark.parametrize("name", TRAININGS)
def test_every_variable_of_a_command_has_a_value(name):
    for pod in kubernetes_pods.pods(FOLDER / name):
        assert not re.search(r"\$[({]", " ".join(pod.command))


@pytest.mark.parametrize("name", TRAININGS)
def test_pods_need_no_permission_and_write_to_volumes_alone(name):
    for pod in kubernetes_pods.pods(FOLDER / name):
        (container,) = pod.spec["containers"]
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in pod.spec["volumes"]}
        assert {"/workspace", "/cache", "/tmp"} <= set(mounted.values())
        given = flags_of(pod)
        assert all(given[f].startswith("/workspace/") for f in ("workdir", "config.data.store"))


def test_the_command_with_a_bucket_fits_the_job_of_a_fold_each():
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```",
        (ROOT / "docs" / "kubernetes.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    command = yaml.safe_load(block)["command"]
    (document,) = kubernetes_pods.documents(FOLDER / "folds.yaml")
    (container,) = document["spec"]["template"]["spec"]["containers"]
    end = command.index("--")
    assert command[end + 1 :] == container["command"]
    given = dict(word.split("=", 1) for word in command[end:] if "=" in word)
    assert command[0] == "bash" and command[1].startswith("/opt/brats_jax/launch/")
    assert (ROOT / command[1].removeprefix("/opt/brats_jax/")).is_file()
    assert command[2:4] == ["--store", given["--config.data.store"]]
    assert command[5:7] == ["--run", given["--workdir"]] and "$(JOB_COMPLETION_INDEX)" in command[7]
    container["command"] = command
    kubernetes_validate.validate(document, OLDEST, strict=True)


def test_two_pods_with_one_number_are_refused_before_anything_starts():
    """What a job without completionMode=Indexed would give: the variable stays as it is."""
    document = kubernetes_pods.documents(FOLDER / "nodes.yaml")[1]
    assert document["spec"]["completionMode"] == "Indexed"
    with pytest.raises(BratsError, match="with 2 processes give 0 to 1"):
        distributed.initialize("brats-nodes-0.brats-nodes:8476", 2, 2)
