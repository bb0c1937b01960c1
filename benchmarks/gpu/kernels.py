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
# Between the GPUs of one machine: published bytes per second of NVLink 4 in one direction, and the
# time that a message takes at least.
LINK = 450e9
LEAST_MESSAGE_SECONDS = 10e-6


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


class Message(NamedTuple):
    """One exchange between the devices of a program.

    Attributes:
      kind: 'all-reduce', 'all-gather' or another operation.
      bytes: bytes of its result.
      beside: kernels that the program runs between its start and its end.
    """

    kind: str
    bytes: int
    beside: tuple[Kernel, ...] = ()

    def seconds(self, devices: int) -> float:
        """Estimated time: a ring at 80 % of the links' rate, and a latency."""
        rounds = 2 if self.kind == "all-reduce" else 1
        sent = rounds * (devices - 1) / devices * self.bytes
        return LEAST_MESSAGE_SECONDS + sent / (SHARE_OF_BANDWIDTH * LINK)


def show_messages(messages: list[Message], devices: int, bandwidth: float) -> tuple[float, float]:
    """Prints the messages by kind; returns the estimated seconds, and those not beside kernels."""
    estimate = sum(message.seconds(devices) for message in messages)
    hidden = sum(
        min(
            message.seconds(devices),
            least_seconds(message.beside, SHARE_OF_BANDWIDTH * bandwidth, LEAST_SECONDS),
        )
        for message in messages
    )
    print(
        f"    between {devices} GPUs: {len(messages)} messages, estimated {1e3 * estimate:.2f} ms, "
        f"of which {1e3 * hidden:.2f} ms could pass beside kernels"
    )
    kinds: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        kinds[message.kind].append(message.bytes)
    for kind, sizes in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        print(f"    {len(sizes):5} {sum(sizes) / 1e6:9.1f} MB  {kind}")
    return estimate, estimate - hidden


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
