"""The user's options for reading the files of cases."""

import math
from dataclasses import dataclass
from numbers import Real

from brats_jax.errors import BratsError

MAX_CASE_GB = 4.0  # a case of BraTS takes 0.3 GB
_DIRECTIONS = ("LR", "AP", "IS")


@dataclass(frozen=True)
class ReadOptions:
    """Choices for reading the files of cases.

    Attributes:
      orientation: the axes, e.g. 'LPS', of files whose headers do not decide them; '' refuses
        such files.
      max_case_gb: the largest size of a case, unpacked, in 10^9 bytes.
      require_labels: refuse cases without labels of the classes, or without some modality.

    Raises:
      BratsError: an `orientation` that names no three axes, or a size that is not above 0.
    """

    orientation: str = ""
    max_case_gb: float = MAX_CASE_GB
    require_labels: bool = False

    def __post_init__(self) -> None:
        codes = self.orientation.strip().upper()
        axes = [axis for code in codes for axis in range(3) if code in _DIRECTIONS[axis]]
        if codes and (len(codes) != 3 or sorted(axes) != [0, 1, 2]):
            raise BratsError(
                f"--orientation={self.orientation[:40]}: give the directions of the three axes, "
                "one of L and R, one of A and P, one of I and S, e.g. LPS"
            )
        object.__setattr__(self, "orientation", codes)
        size = self.max_case_gb
        if not isinstance(size, Real) or not 0 < size < math.inf:
            raise BratsError(f"max_case_gb={size!r}: give a size in GB above 0")


def check_case_bytes(path: str, size: int, max_case_gb: float) -> None:
    """Refuses a case before it is allocated, if it takes more than `max_case_gb` (BratsError)."""
    if size > max_case_gb * 1e9:
        raise BratsError(
            f"{path}: its case takes {size / 1e9:.3g} GB in memory, more than {max_case_gb:g} GB "
            "(--max_case_gb): check the case, or allow more if there is as much"
        )
