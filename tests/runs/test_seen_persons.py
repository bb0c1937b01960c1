"""Persons whom a model has seen are known by hashes."""

from brats_jax.runs.seen_persons import hashed_persons


def test_persons_are_recognised_without_their_names():
    seen = hashed_persons(["BraTS-GLI-00006-000", "UPENN-GBM-00001_21"], "salt")
    assert len(seen) == 2 and not any("0000" in one and "GLI" in one for one in seen)
    assert hashed_persons(["BraTS-GLI-00006-001"], "salt")[0] in seen  # another visit
    assert hashed_persons(["BraTS-GLI-00007-000"], "salt")[0] not in seen


def test_another_model_has_other_hashes():
    assert hashed_persons(["a"], "1") != hashed_persons(["a"], "2")


def test_scans_of_one_person_are_one_hash():
    assert len(hashed_persons(["BraTS-GLI-00006-000", "BraTS-GLI-00006-001"], "")) == 1
