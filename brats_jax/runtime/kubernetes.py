"""Processes in pods of Kubernetes: how JAX's detection is kept out, and its errors in one line."""

import os
import textwrap
from collections.abc import Mapping

from brats_jax.errors import BratsError

_LONGEST = 160  # characters of a reason
_REMEDY = (
    "give --coordinator=HOST:PORT --num_processes=N --process_id=$(JOB_COMPLETION_INDEX) as "
    "launch/kubernetes/nodes.yaml does, which needs no permissions"
)


def is_pod(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in a pod; the kubelet sets this variable in every one."""
    return "KUBERNETES_SERVICE_HOST" in environment


def detection(automatic: bool, environment: Mapping[str, str] = os.environ) -> str | None:
    """The `cluster_detection_method` of `jax.distributed.initialize`.

    JAX asks the cluster for what is not given, and flags do not give the devices. In a pod it would
    ask the Kubernetes API, if the package kubernetes is installed, and fail without permissions.

    Args:
      automatic: the cluster is to provide the addresses.
      environment: of this process.
    """
    return "deactivate" if is_pod(environment) and not automatic else None


def detection_error(error: Exception) -> BratsError:
    """The line for an exception of JAX's detection in a pod.

    JAX raises several lines of advice where the Kubernetes API refuses or a service is missing, and
    a ValueError where the package kubernetes, with which it asks, is not installed.

    Args:
      error: what `jax.distributed.initialize` raised before it knew the coordinator.
    """
    if isinstance(error, ValueError):
        reason = "JAX finds the other pods by the package kubernetes, which is not installed"
    else:
        words = " ".join(str(error).split()) or type(error).__name__
        # The first sentence says what is wrong, the others advise.
        reason = words.split(". ")[0].split(" It appears")[0].rstrip(".")
        reason = textwrap.shorten(reason, _LONGEST, placeholder=" ...")
    return BratsError(f"--distributed in a pod: {reason}; {_REMEDY}")
