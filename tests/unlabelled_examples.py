"""A tiny store with and without labels, and with missing modalities."""

import dataclasses
import types
from pathlib import Path

import brats_files
import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.sources.base import Case
from brats_jax.data.store.prepare import prepare

SLICES = 16


def source_of(*cases: Case, name: str = "test"):
    """A source of cases that are given as they are."""
    return types.SimpleNamespace(
        name=name,
        normalisations=("slice", "volume"),
        description={"folder": name},
        patients=lambda: [case.patient for case in cases],
        read=lambda patient: next(case for case in cases if case.patient == patient),
    )


def made_cases(count: int, seed: int = 0) -> list[Case]:
    """Labelled cases, 16 slices of 48 x 48."""
    found = []
    for k in range(seed, seed + count):
        volumes = brats_files.make_case(k, shape=(48, 48, SLICES))
        images = np.stack([volumes[name] for name in MODALITIES], axis=-1)
        found.append(
            Case(
                patient=f"P{k}",
                images=np.moveaxis(images, 2, 0).copy(),
                labels=np.moveaxis(volumes["seg"], 2, 0).copy(),
                slice_numbers=np.arange(SLICES),
                affine=None,
                spacing_mm=(1.0, 1.0, 1.0),
            )
        )
    return found


def changed(case: Case, patient: str, *, kind: str = "classes", lacks=(), subject="") -> Case:
    """The same case with other labels, or without some modalities."""
    images = case.images.copy()
    for name in lacks:
        images[..., MODALITIES.index(name)] = 0
    mask = (case.labels > 0).astype(np.uint8)
    labels = {"classes": case.labels, "whole_tumour": mask, "none": None}[kind]
    present = tuple(name for name in MODALITIES if name not in lacks)
    return dataclasses.replace(
        case,
        patient=patient,
        subject=subject or patient,
        images=images,
        labels=labels,
        label_kind=kind,
        present=present,
    )


def mixed_cases() -> list[Case]:
    """Six labelled persons, one of them scanned again without labels, and five others."""
    found = made_cases(12)
    cases = [changed(case, f"L{k}") for k, case in enumerate(found[:6])]
    cases.append(changed(found[6], "L0 again", kind="none", subject="L0"))
    cases.append(changed(found[7], "No T2", lacks=("t2",)))
    cases.append(changed(found[8], "U0", kind="none"))
    cases.append(changed(found[9], "U1", kind="none"))
    cases.append(changed(found[10], "U2", kind="none", lacks=("t2", "flair")))
    cases.append(changed(found[11], "Mask", kind="whole_tumour"))
    return cases


def make_store(path: Path) -> None:
    """The store of `mixed_cases`."""
    prepare(source_of(*mixed_cases()), path, workers=1)
