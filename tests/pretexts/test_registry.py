from pathlib import Path

from brats_jax.pretexts import PRETEXTS, registry


def test_there_is_a_pretext_in_every_file_and_the_papers_is_first():
    files = {path.stem for path in Path(registry.__file__).parent.glob("*.py")}
    assert set(PRETEXTS) == files - {"__init__", "base", "registry"}
    assert next(iter(PRETEXTS)) == "cross_modality"
    assert all(kind.name == name for name, kind in PRETEXTS.items())
