from brats_jax.pretexts import PRETEXTS


def test_only_the_control_needs_another_persons_slice():
    assert [name for name, kind in PRETEXTS.items() if kind.needs_donor] == ["shuffled"]
