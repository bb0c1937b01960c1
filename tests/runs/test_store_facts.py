from pathlib import Path

from brats_jax.experiments.continuation import describe_store
from brats_jax.runs.store_facts import StoreFacts, path_of_store


def test_patients_are_counted_only_where_some_lack_labels_or_modalities(mixed_store, small_store):
    plain = describe_store(small_store)
    assert plain.patients == {} and "patients" not in plain.to_json()
    facts = describe_store(mixed_store)
    assert facts.patients == {
        "labelled": 7,
        "labelled_persons": 7,
        "unlabelled": 5,
        "unlabelled_persons": 5,
        "partial": 2,
        "partial_persons": 2,
        "whole_tumour": 1,
    }
    assert StoreFacts.from_json(facts.to_json()) == facts


def test_a_relative_store_is_found_above_a_run_that_was_moved(tmp_path, monkeypatch):
    run = tmp_path / "moved" / "runs" / "ssl"
    assert path_of_store("data/store", run) == Path("data/store")  # nowhere: the message names it
    store = tmp_path / "moved" / "data" / "store"
    store.mkdir(parents=True)
    assert path_of_store("data/store", run) == store
    assert path_of_store("/data/store", run) == Path("/data/store")
    here = tmp_path / "here"
    (here / "data" / "store").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert path_of_store("data/store", run) == Path("data/store")
