from brats_jax.pretexts import PRETEXTS
from brats_jax.runs.pretext_label import pretext_label


def test_every_pretext_is_told_in_words_of_its_own():
    words = [pretext_label("t2,flair", ("t1", "t1gd"), name) for name in PRETEXTS]
    assert words[0] == pretext_label("t2,flair", ("t1", "t1gd")) == "T2, FLAIR from T1, T1Gd"
    assert "T1, T1Gd from themselves (autoencode)" in words
    assert "T2, FLAIR from T1, T1Gd (shuffled)" in words
    assert len(set(words)) == len(words)
