from brats_jax.data.sources.phantom.tumour import plan_tumour


def test_of_eight_patients_one_has_no_et_one_is_solid_and_one_has_several_foci():
    for block in range(3):
        kinds = [plan_tumour(0, 8 * block + i).kind for i in range(8)]
        assert sorted(kinds) == ["multifocal", "no_et", *["ring"] * 5, "solid"]


def test_a_plan_is_a_function_of_seed_and_patient():
    assert plan_tumour(3, 5) == plan_tumour(3, 5)
    assert plan_tumour(3, 5) != plan_tumour(4, 5)


def test_the_foci_are_in_the_head_and_the_largest_is_first():
    for index in range(20):
        plan = plan_tumour(1, index)
        radii = [radius for _, radius in plan.foci]
        assert radii[0] == max(radii) and plan.side in (-1, 1)
        (_, x, _), _ = plan.foci[0]
        assert (x - 119.5) * plan.side > 0
