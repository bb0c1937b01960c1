"""The pods of a file in launch/kubernetes/, as the cluster would make them.

    python tests/kubernetes_pods.py launch/kubernetes/nodes.yaml

prints one JSON object for each pod. Follows the documentation of Indexed Jobs (names,
JOB_COMPLETION_INDEX), of JobSet 0.12 (a job for each replica, annotations, the subdomain) and of
`$(NAME)` in commands: https://kubernetes.io/docs/concepts/workloads/controllers/job/,
https://jobset.sigs.k8s.io and
https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
"""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

INDEX = "batch.kubernetes.io/job-completion-index"
JOB_INDEX = "jobset.sigs.k8s.io/job-index"


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod.

    Attributes:
      hosts: the names by which other pods reach it.
      environment: of its container, without what the image sets.
      command: the container's, with its variables replaced.
      spec: the pod's.
    """

    hosts: list[str]
    environment: dict[str, str]
    command: list[str]
    spec: dict[str, Any]


def documents(file: Path) -> list[dict[str, Any]]:
    """The objects of a YAML file."""
    return list(yaml.safe_load_all(file.read_text()))


def jobs(file: Path) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """(name, annotations of the pods, spec) of every job that the file brings about."""
    found = []
    for document in documents(file):
        name = document["metadata"]["name"]
        if document["kind"] == "Job":
            found.append((name, {}, document["spec"]))
        if document["kind"] == "JobSet":
            for part in document["spec"]["replicatedJobs"]:
                spec = part["template"]["spec"]
                spec["template"]["spec"].setdefault("subdomain", name)
                found += [
                    (f"{name}-{part['name']}-{i}", {JOB_INDEX: str(i)}, spec)
                    for i in range(part["replicas"])
                ]
    return found


def pods(file: Path) -> list[Pod]:
    """The pods of all jobs of the file."""
    found = []
    for name, annotations, job in jobs(file):
        spec = job["template"]["spec"]
        for index in range(job["completions"]):
            environment = _environment(spec, annotations | {INDEX: str(index)})
            command = [_expanded(word, environment) for word in spec["containers"][0]["command"]]
            subdomain = spec.get("subdomain")
            hosts = [f"{name}-{index}.{subdomain}"] if subdomain else []
            found.append(Pod(hosts, environment, command, spec))
    return found


def _environment(spec: dict[str, Any], annotations: dict[str, str]) -> dict[str, str]:
    environment = {
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "JOB_COMPLETION_INDEX": annotations[INDEX],
    }
    for variable in spec["containers"][0].get("env", []):
        if "value" in variable:
            value = _expanded(variable["value"], environment)
        else:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            value = annotations[re.fullmatch(r"metadata\.annotations\['(.*)'\]", path)[1]]
        environment[variable["name"]] = value
    return environment


def _expanded(word: str, environment: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda m: environment.get(m[1], m[0]), word)


if __name__ == "__main__":
    for pod in pods(Path(sys.argv[1])):
        print(json.dumps({n: getattr(pod, n) for n in ("hosts", "environment", "command")}))
