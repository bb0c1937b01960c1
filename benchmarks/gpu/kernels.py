"""Estimates the time of a compiled step from the number of its kernels and the bytes they move."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

# Name, published bytes per second, bytes of memory. Both have compute capability 9.0.
GPUS = {
    "h100": ("NVIDIA H100 80GB HBM3", 3.35e12, 85_000_000_000),
    "h200": ("NVIDIA H200", 4.8e12, 150_000_000_000),
}
SHARE_OF_BANDWIDTH = 0.8
LEAST_SECONDS = 2e-6


class Kernel(NamedTuple):
    """One kernel of a program.

    Attributes:
      kind: kind of operation, in words.
      bytes: bytes of the operands (of their parts that are read) and of the result, ignoring
        caches.
      operation: name of the operation in the traced function.
    """

    kind: str
    bytes: int
    operation: str


def least_seconds(kernels: Iterable[Kernel], bandwidth: float, each: float) -> float:
    """Seconds if each kernel moves its bytes at `bandwidth` bytes/s and takes at least `each` s."""
    return sum(max(kernel.bytes / bandwidth, each) for kernel in kernels)


def show(title: str, kernels: list[Kernel], bandwidth: float) -> float:
    """Prints number and bytes of the kernels by kind; returns the estimated seconds."""
    moved = sum(kernel.bytes for kernel in kernels)
    estimate = least_seconds(kernels, SHARE_OF_BANDWIDTH * bandwidth, LEAST_SECONDS)
    print(
        f"  {title}: {len(kernels)} kernels, {moved / 1e9:.2f} GB ({1e3 * moved / bandwidth:.2f} "
        f"ms at {bandwidth / 1e12:.2f} TB/s); estimated {1e3 * estimate:.2f} ms"
    )
    kinds: dict[str, list[int]] = defaultdict(list)
    for kernel in kernels:
        kinds[kernel.kind].append(kernel.bytes)
    for kind, sizes in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        print(f"    {len(sizes):5} {sum(sizes) / 1e6:9.1f} MB  {kind}")
    return estimate
