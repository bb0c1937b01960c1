from brats_jax.experiments.continuation import describe_store
from brats_jax.runs.store_facts import StoreFacts


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
