"""The data and the settings of the runs of a report, in words and as JSON."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from brats_jax.data.planes import AXIAL
from brats_jax.data.sources.joined import descriptions_in
from brats_jax.reporting.read_runs import Study
from brats_jax.runs.pretext_label import pretext_label
from brats_jax.runs.settings_comparison import flatten, without_paths
from brats_jax.runtime.text import joined, plural


def facts(study: Study) -> Iterator[str]:
    """A line for each store, and one for each pretraining task."""
    stores: dict[str, None] = {}
    pretrainings: dict[str, None] = {}
    for run in study.runs:
        store = run.document.store
        line = (
            f"Store {store.fingerprint} ({describe_source(store.source)}), normalised by "
            f"{store.normalisation}"
        ) + f", {store.plane} slices" * (store.plane != AXIAL)
        place = run.document.settings.data.store
        name = Path(place).name
        line = f"{line}, in a folder called {name}." if name else f"{line}."
        if store.other_planes:
            line += f" Training also reads stores of {joined([*store.other_planes])} slices."
        stores[line + describe_patients(store.patients)] = None
        if run.ssl:
            settings = run.document.settings.pretrain
            words = pretext_label(settings.target, settings.inputs, settings.task)
            decoder = "" if settings.decoder == "transposed" else f", decoder {settings.decoder}"
            pretrainings[f"Pretraining predicts {words}{decoder}."] = None
    yield from (*stores, *pretrainings)


def describe_source(source: dict[str, Any]) -> str:
    """'phantom, 16 patients, seed 0'."""
    several = descriptions_in(source)
    if len(several) > 1:
        return "; ".join(describe_source(one) for one in several)
    kind = str(source.get("kind", "source unknown"))
    more = [f"{source['patients']} patients"] if isinstance(source.get("patients"), int) else []
    if kind == "phantom" and "seed" in source:
        more.append(f"seed {source['seed']}")
    return ", ".join([kind, *more])


def describe_patients(counts: Mapping[str, int]) -> str:
    """' Of its patients 6 have labels and 14 have none.'; '' where all have all.

    Args:
      counts: `StoreFacts.patients`.
    """
    if not counts:
        return ""

    def words(name: str) -> str:
        count, people = counts.get(name, 0), counts.get(f"{name}_persons", 0)
        return f"{count:,}" + (f" ({plural(people, 'person')})" if people != count else "")

    masks, partial = counts.get("whole_tumour", 0), counts.get("partial", 0)
    return (
        f" Of its patients {words('labelled')} have labels of the classes and "
        f"{words('unlabelled')} have none"
        + (f", of which {masks:,} have a mask of the whole tumour" if masks else "")
        + (f"; {words('partial')} lack a modality" if partial else "")
        + ". Pretraining alone uses those without labels."
    )


def configuration(study: Study) -> str:
    """The settings that all runs share, and those in which they differ, as JSON."""
    configs = [flatten(without_paths(run.config)) for run in study.runs]
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
