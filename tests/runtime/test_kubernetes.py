"""Processes in pods: with a stand-in for the package kubernetes, and JAX's own detection."""

import sys
from types import SimpleNamespace

import jax
import pytest
from jax._src import xla_bridge
from jax._src.clusters.k8s_cluster import K8sCluster

from brats_jax.errors import BratsError
from brats_jax.runtime import distributed, kubernetes

REMEDY = "; give --coordinator=HOST:PORT --num_processes=N --process_id=$(JOB_COMPLETION_INDEX)"
IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


class ApiError(Exception):
    """Stands in for kubernetes.client.exceptions.ApiException."""

    def __init__(self, status, reason):
        self.status, self.reason = status, reason


class ConfigError(Exception):
    """Stands in for kubernetes.config.ConfigException."""


@pytest.fixture
def pod(monkeypatch):
    """The environment of a pod; no argument and no variable names a coordinator."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOSTNAME", "localhost")
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setattr(K8sCluster, "_namespace", lambda: "default")
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # of all tests of this process
    # An earlier test of this process may have asked JAX for its devices; the command has not.
    monkeypatch.setattr(xla_bridge, "backends_are_initialized", lambda: False)
    yield monkeypatch
    for cached in (K8sCluster._pod, K8sCluster._job):
        cached.__func__.cache_clear()


def install(monkeypatch, load=lambda: None, pods=()):
    """A package kubernetes whose API answers with `pods`, or raises them."""

    def list_pods(**_):
        if isinstance(pods, Exception):
            raise pods
        return SimpleNamespace(items=list(pods))

    core = SimpleNamespace(list_namespaced_pod=list_pods)
    package = SimpleNamespace(
        config=SimpleNamespace(load_incluster_config=load),
        client=SimpleNamespace(
            CoreV1Api=lambda: core,
            BatchV1Api=lambda: None,
            exceptions=SimpleNamespace(ApiException=ApiError),
        ),
    )
    monkeypatch.setitem(sys.modules, "kubernetes", package)


def line_of_distributed():
    with pytest.raises(BratsError) as raised:
        distributed.initialize(None, None, None, True)
    text = str(raised.value)
    assert "\n" not in text and REMEDY in text
    return text.split(REMEDY)[0]


@pytest.mark.filterwarnings("ignore:.*Kubernetes environment detected")
def test_a_pod_without_the_package_gets_one_line(pod):
    pod.setitem(sys.modules, "kubernetes", None)
    assert line_of_distributed() == (
        "--distributed in a pod: JAX finds the other pods by the package kubernetes, which is not "
        "installed"
    )


def test_a_pod_without_a_service_account_gets_one_line(pod):
    def load():
        raise ConfigError("Service token file does not exist.")

    install(pod, load)
    assert line_of_distributed() == "--distributed in a pod: Service token file does not exist"


def test_a_pod_without_permissions_gets_one_line(pod):
    install(pod, pods=ApiError(403, "Forbidden"))
    assert line_of_distributed() == (
        "--distributed in a pod: Kubernetes API Error: 403 - Forbidden"
    )


def test_a_pod_without_a_headless_service_gets_the_first_sentence():
    advice = "Pods within a job need a headless\nservice in order to communicate with each other. "
    text = str(kubernetes.detection_error(RuntimeError(advice + "To fix, add\n```\nkind: Job\n")))
    assert text.startswith(
        "--distributed in a pod: Pods within a job need a headless service in order to communicate "
        "with each other; give --coordinator"
    )
    assert len(str(kubernetes.detection_error(RuntimeError("a " * 5000)))) < 500


def test_with_flags_a_pod_asks_nobody(pod):
    """JAX would ask for the devices, and the package would fail without a service account."""

    def load():
        raise ConfigError("asked")

    install(pod, load)
    given = {}

    def initialize(*arguments, **options):
        given.update(options, arguments=arguments)

    pod.setattr(jax.distributed, "initialize", initialize)
    distributed.initialize("127.0.0.1:9", 2, 1)
    assert given["cluster_detection_method"] == "deactivate"
    assert given["arguments"] == ("127.0.0.1:9", 2, 1)


def test_outside_of_pods_jax_decides():
    assert kubernetes.detection(False, {}) is None
    assert kubernetes.detection(True, {}) is None
    assert kubernetes.detection(True, IN_A_POD) is None
    assert kubernetes.detection(False, IN_A_POD) == "deactivate"
