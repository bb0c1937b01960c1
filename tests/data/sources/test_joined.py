import pickle

import pytest
import unlabelled_examples as examples

from brats_jax.data.sources.detect import open_sources
from brats_jax.data.sources.joined import (
    JoinedSources,
    described,
    description_of,
    descriptions_in,
)
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def cases():
    return examples.made_cases(4)


def test_cases_stand_source_after_source(cases):
    one, other = (examples.source_of(*c, name=n) for c, n in ((cases[:1], "A"), (cases[1:], "B")))
    joined = JoinedSources([one, other])
    assert joined.patients() == ["P0", "P1", "P2", "P3"] and joined.name == "several"
    assert [joined.number_of(name) for name in joined.patients()] == [0, 1, 1, 1]
    assert joined.read("P2") is cases[2]
    assert descriptions_in(joined.description) == [description_of(one), description_of(other)]
    swapped = joined.ordered([description_of(other)])
    assert swapped.patients() == ["P1", "P2", "P3", "P0"]
    assert swapped.holds([description_of(one)]) and not JoinedSources([one]).holds(
        [description_of(other)]
    )


def test_one_source_is_described_as_itself():
    phantom = PhantomSource(2, 1, (16, 32, 32))
    joined = pickle.loads(pickle.dumps(JoinedSources([phantom])))
    facts = {"kind": "phantom", "patients": 2, "seed": 1, "shape": [16, 32, 32]}
    assert joined.description == described([facts]) == facts == descriptions_in(facts)[0]
    assert joined.name == "phantom" and joined.files_of("Phantom_001") == []


def test_a_name_in_two_sources_and_a_source_given_twice_are_refused(cases):
    one, other = (examples.source_of(*c, name=n) for c, n in ((cases[:2], "A"), (cases[1:], "B")))
    joined = JoinedSources([one, other])
    assert joined.patients() == ["P0", "P1", "P2", "P3"]
    (place,) = joined.problems()
    assert place == "P1 of B" and "the case P1 is in A and in B" in joined.problems()[place]
    with pytest.raises(BratsError, match="--source=A is given twice"):
        JoinedSources([one, one])


def test_each_source_takes_the_options_that_fit_it(tmp_path, brats_files):
    volumes = brats_files.make_case()
    brats_files.write_nifti_case(tmp_path / "n", "A", volumes)
    brats_files.write_kaggle(tmp_path / "k", 1, volumes, slices=(3,))
    order = ["t1", "t1ce", "t2", "flair"]
    given = {"patients": 2, "labels": "msd", "channel_order": order}
    nifti, kaggle, phantom = open_sources([tmp_path / "n", str(tmp_path / "k"), "phantom"], **given)
    assert nifti.description["labels"] == "msd" and phantom.description["patients"] == 2
    assert kaggle.description["channel_order"] == ["t1", "t1gd", "t2", "flair"]
    with pytest.raises(BratsError, match="--patients is for --source=phantom"):
        open_sources([tmp_path / "n", tmp_path / "k"], patients=2)
    with pytest.raises(BratsError, match="--labels is for NIfTI volumes"):
        open_sources([tmp_path / "k"], labels="msd")
