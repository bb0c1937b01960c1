import copy
import json

from brats_jax.runs.settings_comparison import FREE_TO_CHANGE, differences
from configs import base


def document_of(**changes):
    """configs/base.py as JSON, with changes: data__store for data.store."""
    config = base.get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return json.loads(config.to_json_best_effort())


def test_differences_leave_out_what_does_not_change_results():
    before = document_of()
    free = document_of(folds=(1,), data__workers=4, train__save_every_steps=7)
    assert differences(before, free) == []
    other = document_of(seed=1, pretrain__epochs=2)
    assert differences(before, other) == ["pretrain.epochs: 30 -> 2", "seed: 0 -> 1"]


def test_only_settings_that_were_added_later_may_be_missing_in_an_earlier_run():
    before, now = document_of(), document_of()
    del before["train"]["float32_epochs"]
    assert differences(before, now) == []
    assert differences(now, document_of(train__float32_epochs=0)) == [
        "train.float32_epochs: 1 -> 0"
    ]
    del before["seed"]
    assert differences(before, now) == ["seed: None -> 0"]


def test_a_setting_that_an_earlier_run_does_not_have_has_its_meaning_of_then():
    before, now = document_of(), document_of(data__selection="validation")
    del before["transfer"], before["data"]["selection"]
    assert differences(before, now) == []
    assert differences(before, document_of()) == ["data.selection: validation -> budget"]
    other = document_of(data__selection="validation", transfer__parts="stem")
    assert differences(before, other) == ["transfer.parts: encoder -> stem"]


def test_a_run_goes_on_with_its_groups_alone_and_an_earlier_run_has_none():
    earlier = document_of()
    del earlier["train"]["norm_group"], earlier["train"]["gradient_sum_dtype"]
    assert differences(earlier, document_of()) == []
    now = document_of(train__norm_group=8, train__gradient_sum_dtype="bfloat16")
    assert differences(earlier, now) == [
        "train.gradient_sum_dtype: auto -> bfloat16",
        "train.norm_group: 0 -> 8",
    ]


def test_a_run_from_before_the_stronger_augmentations_goes_on_without_them_alone():
    earlier = document_of()
    for stage in ("pretrain", "segment"):
        for name in ("rotation", "scaling", "blur", "low_resolution", "modality_intensity"):
            del earlier[stage]["augmentation"][name]
    for name in ("sampling", "selection_metric"):
        del earlier["segment"][name]
    assert differences(earlier, document_of()) == []
    now = document_of(
        segment__augmentation__rotation=True, segment__sampling="classes",
        segment__selection_metric="volume_dice",
    )  # fmt: skip
    assert differences(earlier, now) == [
        "segment.augmentation.rotation: False -> True",
        "segment.sampling: tumour -> classes",
        "segment.selection_metric: dice -> volume_dice",
    ]


def test_the_path_of_a_pretraining_may_change_but_not_whether_there_is_one():
    none, here, there = (document_of(pretrain__run=run) for run in ("", "A", "B"))
    assert differences(here, there) == []
    assert differences(none, here) == ["pretrain.run:  -> A"]


def test_the_settings_that_a_run_may_change_are_those_of_the_first_version_and_of_more_files():
    assert {
        "folds", "compilation_cache", "data.store", "data.workers", "data.threads",
        "data.placement", "train.log_every_steps", "train.save_every_steps",
        "train.steps_per_dispatch", "train.deterministic", "evaluation.panels",
        "evaluation.batch_size", "evaluation.subsets", "trackers",
    } == FREE_TO_CHANGE  # fmt: skip


def test_comparing_settings_leaves_them_as_they_are():
    before = document_of()
    kept = copy.deepcopy(before)
    differences(before, document_of(seed=1))
    assert before == kept
