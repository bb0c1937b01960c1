"""The documents of an evaluation with missing modalities."""

import dataclasses

from subset_examples import document_of

from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles
from brats_jax.runtime.document import read_document


def test_a_document_reads_back_as_it_was_written(tmp_path):
    document = document_of()
    document.write(SubsetFiles(tmp_path).json)
    assert read_document(SubsetFiles(tmp_path).json, SubsetEvaluation) == document


def test_it_is_complete_with_a_subset_for_each_choice_of_modalities():
    document = document_of()
    assert document.is_complete
    assert not dataclasses.replace(document, subsets=document.subsets[:2]).is_complete


def test_the_subsets_of_another_checkpoint_or_another_test_set_are_others():
    document = document_of()
    assert document.same_as(dataclasses.replace(document, subsets=()))
    for change in ({"patients": ("A",)}, {"tta": True}, {"trained_for_missing": True}):
        assert not document.same_as(dataclasses.replace(document, **change))
