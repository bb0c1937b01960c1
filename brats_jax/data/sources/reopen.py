"""Opens the sources that a store was prepared from, as its manifest describes them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import Source
from brats_jax.data.sources.detect import PHANTOM, open_source
from brats_jax.data.sources.joined import description_of, place_of
from brats_jax.errors import BratsError


def reopen(description: Mapping[str, Any], options: ReadOptions) -> Source:
    """Opens a source with the options that it was opened with.

    Args:
      description: of the source, see `joined.description_of`.
      options: how files are read; the orientation is that of the description.

    Raises:
      BratsError: the folder is gone or holds something else now, or the source was no folder and
        no phantom.
    """
    known = dict(description)
    place = known.get("folder", PHANTOM if known["kind"] == PHANTOM else "")
    if not place:
        raise BratsError(
            f"a source of kind {known['kind']} cannot be opened again by itself: name all sources "
            "of the store, and the new ones"
        )
    own = dataclasses.replace(options, orientation=known.get("orientation", ""))
    given = {name: known.get(name) for name in ("patients", "seed", "shape", "channel_order")}
    problem: BratsError | None = None
    # A data set describes the labels that its dataset.json names, too: they need not be given.
    for labels in dict.fromkeys(("", str(known.get("labels", "")).split(" ")[0])):
        try:
            source = open_source(place, labels=labels, options=own, **given)  # type: ignore[arg-type]
        except BratsError as error:
            problem = problem or error
            continue
        if description_of(source) == known:
            return source
    raise problem or BratsError(
        f"{place_of(known)} is not as it was when the store was prepared: name all sources of the "
        "store, and the new ones"
    )
