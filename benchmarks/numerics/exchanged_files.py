"""How often two exchanged modalities of a case are noticed by their contrast.

    python benchmarks/numerics/exchanged_files.py DIR [DIR ...]

DIR holds BraTS cases. Each case is looked at as it is, and with each two of its modalities
exchanged (`brats_jax.data.scans.contrast`, which prediction calls). Prints for how many cases there
is a warning, which is right for all exchanges and wrong for the cases as they are.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES
from brats_jax.data.scans.contrast import exchange_note
from brats_jax.data.sources.detect import open_source


def main() -> None:
    """Prints a line for each exchange."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+")
    names, cases = {name: name for name in MODALITIES}, 0
    pairs = [(), *itertools.combinations(range(len(MODALITIES)), 2)]
    warned = dict.fromkeys(pairs, 0)
    for folder in parser.parse_args().folders:
        source = open_source(folder)
        for patient in source.patients():
            images, cases = source.read(patient).images, cases + 1
            for pair in pairs:
                order = np.arange(len(MODALITIES))
                order[list(pair)] = order[list(pair)][::-1]
                warned[pair] += bool(exchange_note(images[..., order], names))
    for pair, count in warned.items():
        what = " and ".join(DISPLAY_NAMES[MODALITIES[k]] for k in pair) or "nothing"
        print(f"{what} exchanged: a warning in {count} of {cases} cases")


if __name__ == "__main__":
    main()
