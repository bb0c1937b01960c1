from brats_jax.runs.axes import AS_SET, Axes


def test_axes_of_the_first_version_are_written_as_then():
    """grid.json of 0.1.0 has these five fields, defaults too; and is read."""
    written = Axes(losses=("focal",)).to_json()
    assert {*written} == {"losses", "ssl", "percents", "seeds", "folds"}
    assert Axes.from_json({"losses": ["focal"]}) == Axes(losses=("focal",))
    more = Axes(patients=(1, 3), transfers=("", "stem"), unlabelled=(AS_SET, 0))
    document = {name: list(value) for name, value in more.to_json().items()}
    assert {*document} - {*written} == {"patients", "transfers", "unlabelled"}
    assert Axes.from_json(document) == more


def test_the_words_name_the_axes_with_several_values():
    axes = Axes(("focal",), (True,), (100,), (0, 1), (0,), (1, 3), transfers=("", "stem"))
    assert axes.description == (
        "label budgets 1 patient, 3 patients, 100 %; transfers as the settings say, stem; "
        "seeds 0, 1"
    )
