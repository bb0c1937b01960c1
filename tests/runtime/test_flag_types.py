import pytest
from absl import flags

from brats_jax.errors import BratsError
from brats_jax.runtime import flag_types


@pytest.fixture(scope="module")
def defined():
    """Flags of each type in the names of this test."""
    flag_types.define_path("test_path", "A path.")
    flag_types.define_number("test_number", 0, "A number.", least=0, most=10)
    yield flags.FLAGS
    del flags.FLAGS.test_path, flags.FLAGS.test_number


@pytest.mark.parametrize("value", ["", " ", "a" * 256, "a/" * 2500, "é" * 128])
def test_a_path_that_no_file_system_takes_is_refused(defined, value):
    with pytest.raises(flags.IllegalFlagValueError, match=r"give a path|choose a shorter one"):
        defined(["x", f"--test_path={value}"])


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "10.5", "1e400", "ten", ""])
def test_a_number_outside_its_limits_is_refused(defined, value):
    with pytest.raises(flags.IllegalFlagValueError, match="give a number from 0 to 10"):
        defined(["x", f"--test_number={value}"])


def test_valid_values_are_taken(defined):
    defined(["x", "--test_number=2.5", "--test_path=a/b"])
    assert defined["test_number"].value == 2.5 and defined["test_path"].value == "a/b"


def test_whole_numbers_are_counted_and_bounded():
    assert flag_types.whole_numbers("shape", ["3", "40", "5"], 3) == (3, 40, 5)
    for values in (["3", "40"], ["3", "40", "0"], ["9" * 4400] * 3, ["5000"] * 3, ["²"] * 3):
        with pytest.raises(BratsError, match="give 3 positive whole numbers"):
            flag_types.whole_numbers("shape", values, 3)


@pytest.mark.parametrize(
    ("values", "line"),
    [(("a", None), "give --b=B"), ((None, None), "give --a=A and --b=B")],
)
def test_of_the_flags_that_a_command_needs_only_missing_ones_are_named(values, line):
    assert flag_types.missing_flags(dict(zip(("--a=A", "--b=B"), values, strict=True))) == line
