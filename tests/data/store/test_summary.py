import dataclasses

from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.store.channel_audit import ChannelAudit
from brats_jax.data.store.layout import Manifest, PreparationSettings, StoreSummary
from brats_jax.data.store.summary import kinds_of_patients, summary_table


def manifest(**changes):
    source = {"kind": "kaggle", "folder": "here", "channel_order": ["t1", "t2"]}
    facts = {
        "package_version": "0.1.0",
        "made": "2026-01-01T00:00:00+00:00",
        "source": source,
        "normalisation": "volume",
        "percentile": 99.5,
        "modalities": MODALITIES,
        "classes": CLASSES,
        "slice_shape": (240, 230),
        "orientation": "LPS",
        "patients": (),
        "subjects": (),
        "audit": ChannelAudit(verdict="not possible", slices=0, patients=0),
        "notices": (),
        "notes": {f"N{i}": (f"odd {i}", "strange") for i in range(7)},
        "skipped": {"P7": "P7_t1.nii cannot be read"},
        "settings": PreparationSettings(source, "volume", 2),
        "files": {},
        "summary": StoreSummary(
            patients=3,
            subjects=2,
            slices=1200,
            tumour_slices=300,
            slices_per_class=(1200, 120, 300, 60),
            pixels_per_class=(10_000_000, 1000, 3000, 4000),
            bytes=26_400_000_000,
        ),
    }
    return Manifest(**{**facts, **changes})


def test_the_table_has_every_number():
    lines = summary_table("store", manifest()).splitlines()
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line}
    assert table["store"] == "store (26.40 GB)"
    assert table["source"] == "kaggle: folder here, channel_order t1,t2"
    assert table["patients"] == "3 (2 people, scanned more than once)"
    assert table["slices"] == "1,200 of 240 x 230, 300 with tumour"
    assert table["modalities"] == "T1, T1Gd, T2, FLAIR"
    assert "over the brain; background 0" in table["normalisation"]
    assert table["background"] == "1,200 100.0% 10,000,000"
    assert table["NCR/NET"] == "120 10.0% 1,000 12.5%"
    assert table["ED"] == "300 25.0% 3,000 37.5%"
    assert table["ET"] == "60 5.0% 4,000 50.0%"
    assert "notes on 7 cases (all of them in manifest.json):" in lines
    assert [line for line in lines if "strange" in line] == ["  7 cases: strange"]
    assert table["N4:"] == "odd 4" and "N5:" not in table
    assert lines[-2:] == ["left out 1 bad case:", "  P7: P7_t1.nii cannot be read"]


def test_a_note_of_one_case_stands_beside_its_name():
    notes = {"A": ("odd", "strange"), "B": ("rare",)}
    lines = summary_table("store", manifest(notes=notes, skipped={})).splitlines()
    assert lines[-3:] == [
        "notes on 2 cases (all of them in manifest.json):", "  A: odd; strange", "  B: rare"
    ]  # fmt: skip


def test_a_store_without_tumour_has_no_shares():
    empty = StoreSummary(
        patients=1,
        subjects=1,
        slices=2,
        tumour_slices=0,
        slices_per_class=(2, 0, 0, 0),
        pixels_per_class=(8, 0, 0, 0),
        bytes=1,
    )
    table = summary_table("s", manifest(summary=empty, notes={}, skipped={}))
    assert table.splitlines()[-1].split() == ["ET", "0", "0.0%", "0"]


def test_patients_without_labels_and_modalities_are_counted(mixed_store):
    lines = summary_table("store", mixed_store.manifest).splitlines()
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line}
    assert table["patients"] == "12 (11 people, scanned more than once)"
    assert table["labelled"] == "7"
    assert table["unlabelled"] == "5, 1 of them with a mask of the whole tumour"
    assert table["partial"] == "2: 1 without T2; 1 without T2 and FLAIR"
    assert table["slices"].startswith("192 of 48 x 48, ") and "by labels" in table["slices"]
    assert table["background"].split()[:2] == ["112", "100.0%"]  # of 7 patients with 16 slices
    twice = dataclasses.replace(mixed_store.manifest, subjects=("L0",) * 12)
    assert kinds_of_patients(twice)["labelled"] == "7 (1 person)"
    assert kinds_of_patients(manifest()) == {}


def test_every_source_has_a_row():
    one, other = {"kind": "nifti", "folder": "A"}, {"kind": "lgg", "folder": "B"}
    both = {"kind": "several", "sources": [one, other]}
    table = summary_table("s", manifest(source=both, patients=("a", "b", "c"), source_of=(0, 1, 1)))
    assert "source         1 patient of nifti: folder A" in table
    assert "source         2 patients of lgg: folder B" in table
