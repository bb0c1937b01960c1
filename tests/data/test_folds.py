import pytest

from brats_jax.data.folds import (
    ALL,
    fold_entropy,
    fold_title,
    fold_titles,
    is_all,
    with_fold_numbers,
)


@pytest.mark.parametrize("given", ["all", ["all"], ("all",)])
def test_all_is_known_as_a_config_and_as_the_command_line_give_it(given):
    assert is_all(given)
    assert with_fold_numbers({"folds": given, "seed": 1}) == {"folds": [ALL], "seed": 1}


@pytest.mark.parametrize("given", ["none", ["0,all"], ["all", 0], ["ALL"]])
def test_another_text_is_one_line(given):
    with pytest.raises(ValueError, match=r"'folds' is '.*': give numbers with commas, such as 0,1"):
        with_fold_numbers({"folds": given})


@pytest.mark.parametrize("given", [[0, 1], [], [ALL], None])
def test_nothing_else_is_taken_for_all(given):
    assert not is_all(given)
    assert with_fold_numbers({"folds": given}) == {"folds": given}


def test_titles_and_seeds_of_folds_are_apart():
    assert [fold_title(k) for k in (0, 12, ALL)] == ["fold 0", "fold 12", "all patients"]
    assert [fold_titles(k) for k in ([2], [0, 2])] == ["fold 2", "folds 0, 2"]
    assert fold_titles([ALL]) == "all patients"
    assert [fold_entropy(k) for k in (0, 12, ALL)] == [0, 12, 2**32 - 1]
