"""The data and the settings of the runs of a report, in words and as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brats_jax.data.modalities import DISPLAY_NAMES
from brats_jax.reporting.read_runs import Study
from brats_jax.runs.settings import flatten, without_places


def facts(study: Study) -> Iterator[str]:
    """A line for each store, and one for each pretraining task."""
    stores: dict[str, None] = {}
    pretrainings: dict[str, None] = {}
    for run in study.runs:
        store = run.document.store
        line = (
            f"Store {store.fingerprint} ({describe_source(store.source)}), normalised by "
            f"{store.normalisation}"
        )
        place = run.document.settings.data.store
        name = Path(place).name
        stores[f"{line}, in a folder called {name}." if name else f"{line}."] = None
        if run.ssl:
            settings = run.document.settings.pretrain
            inputs = ", ".join(_display_name(name) for name in settings.inputs)
            target = _display_name(settings.target)
            pretrainings[f"Pretraining predicts {target} from {inputs}."] = None
    yield from (*stores, *pretrainings)


def describe_source(source: dict[str, Any]) -> str:
    """'phantom, 16 patients, seed 0'."""
    kind = str(source.get("kind", "source unknown"))
    more = [f"{source['patients']} patients"] if isinstance(source.get("patients"), int) else []
    if kind == "phantom" and "seed" in source:
        more.append(f"seed {source['seed']}")
    return ", ".join([kind, *more])


def configuration(study: Study) -> str:
    """The settings that all runs share, and those in which they differ, as JSON."""
    configs = [flatten(without_places(run.config)) for run in study.runs]
    names = sorted({name for config in configs for name in config})
    shared = {
        n: configs[0].get(n) for n in names if all(c.get(n) == configs[0].get(n) for c in configs)
    }
    document: dict[str, Any] = {"shared by all runs": shared}
    if len(shared) < len(names):
        document["by run"] = {
            run.name: {n: config.get(n) for n in names if n not in shared}
            for run, config in zip(study.runs, configs, strict=True)
        }
    return json.dumps(document, indent=2)


def _display_name(modality: str) -> str:
    return DISPLAY_NAMES.get(modality, modality)
