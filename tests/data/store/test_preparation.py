import numpy as np
import pytest
import unlabelled_examples as examples

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError


def test_the_manifest_has_columns_only_where_patients_differ(mixed_store, small_store):
    manifest = mixed_store.manifest
    kinds = dict(zip(manifest.patients, manifest.label_kinds, strict=True))
    assert kinds["L0"] == "classes" and kinds["U0"] == "none" and kinds["Mask"] == "whole_tumour"
    present = dict(zip(manifest.patients, manifest.present, strict=True))
    assert present["L0"] == MODALITIES and present["U2"] == ("t1", "t1gd")
    plain = small_store.manifest.to_json()
    names = {"label_kinds", "present", "source_of", "earlier", "index", "tumour_pixels"}
    assert not names & plain.keys() and small_store.labelled.all() and small_store.present.all()


def test_each_source_is_audited_by_itself(tmp_path):
    right, wrong = examples.made_cases(6), examples.made_cases(1, seed=9)[0]
    order = [MODALITIES.index(name) for name in ("t1", "t2", "t1gd", "flair")]
    object.__setattr__(wrong, "images", wrong.images[..., order])
    good = examples.source_of(*right, name="good")
    bad = examples.source_of(wrong, name="bad")
    prepare(good, tmp_path / "store", workers=1)
    for path in (tmp_path / "store", tmp_path / "new"):
        with pytest.raises(
            BratsError, match=r"^bad: the images contradict .*\(P9\): T1Gd and T2 look exch"
        ):
            prepare([good, bad], path, workers=1)
    assert Store.open(tmp_path / "store").patients == [case.patient for case in right]
    manifest = prepare([good, bad], tmp_path / "store", workers=1, ignore_audit=True)
    assert manifest.audit.ignored


def test_cases_without_all_modalities_or_classes_are_not_audited(tmp_path):
    """T1Gd is missing, or the only class is that of a mask: nothing can be compared."""
    cases = [
        examples.changed(case, f"{kind}{k}", kind=kind, lacks=lacks)
        for k, (case, kind, lacks) in enumerate(
            zip(
                examples.made_cases(3),
                ("classes", "whole_tumour", "none"),
                (("t1gd",), (), ()),
                strict=True,
            )
        )
    ]
    manifest = prepare(examples.source_of(*cases), tmp_path / "store", workers=1)
    assert manifest.audit.verdict == "not possible" and not manifest.contradictions
    assert not manifest.audit.ignored


@pytest.mark.parametrize("change", [{"kind": "none"}, {"kind": "whole_tumour"}, {"lacks": ("t2",)}])
def test_labels_and_modalities_can_be_required_of_every_source(tmp_path, change):
    case = examples.changed(examples.made_cases(1)[0], "P", **change)
    options = ReadOptions(require_labels=True)
    with pytest.raises(BratsError, match=r"the case P has no (labels of the classes|t2)"):
        prepare(examples.source_of(case), tmp_path / "store", workers=1, options=options)


def test_a_missing_modality_stays_zero_whatever_the_normalisation(tmp_path):
    case = examples.changed(examples.made_cases(1)[0], "P", kind="none", lacks=("t2", "flair"))
    for how in ("slice", "volume"):
        prepare(examples.source_of(case), tmp_path / how, normalisation=how, workers=1)
        images = Store.open(tmp_path / how).read(range(16))[0].astype(np.float32)
        assert not images[..., 2:].any()
        brain = case.images[..., 0] != 0
        values = images[brain] if how == "volume" else images[8].reshape(-1, 4)
        np.testing.assert_allclose(values[:, :2].mean(axis=0), 0, atol=2e-3)
        np.testing.assert_allclose(values[:, :2].std(axis=0), 1, atol=5e-3)
