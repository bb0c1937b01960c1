import pytest

from brats_jax.data.folds import ALL
from brats_jax.runs.fold_part import FoldPart


@pytest.mark.parametrize(("number", "written"), [(0, 0), (4, 4), (ALL, "all")])
def test_a_training_on_all_patients_is_called_all_in_files(number, written):
    assert FoldPart(number).to_json() == {"fold": written}
    assert FoldPart.from_json({"fold": written}) == FoldPart(number)


def test_another_word_is_no_fold():
    with pytest.raises(ValueError, match="'fold' is 'every', not a whole number"):
        FoldPart.from_json({"fold": "every"})
