"""The page of a comparison on real cases."""

import pytest

from benchmarks.peers import real_table
from brats_jax.data.modalities import REGIONS


def program(dice, steps=100):
    """One fold of a program: `dice` of each case, in every region."""
    scores = {}
    for number, value in enumerate(dice):
        scores[f"case {number}"] = {"dice": value} | {
            f"{metric}_{region}": v
            for region in REGIONS
            for metric, v in (("dice", value), ("hd95_mm", 10 * (1 - value)))
        }
    training = {"seconds": 60.0, "seconds_of_steps": 50.0, "steps": steps, "batch": 4}
    inference = {"seconds_by_case": {name: 2.0 + k for k, name in enumerate(scores)}}
    return {0: {"scores": scores, "training": training, "inference": inference}}


PROGRAMS = {
    "ours": program([0.5, 0.6, 0.7, 0.8]),
    "twin": program([0.52, 0.61, 0.69, 0.82]),
    "nnunet_small": program([0.3, 0.5, 0.5, 0.6], steps=20),
}


def test_differences_are_paired_by_patient_and_theirs_minus_ours():
    numbers = real_table.summary(PROGRAMS)
    assert numbers["means"]["ours"]["dice"] == pytest.approx(0.65)
    assert numbers["means"]["ours"]["median_hd95_mm_WT"] == pytest.approx(3.5)
    twin, nnunet = (numbers["differences"]["dice"][name] for name in ("twin", "nnunet_small"))
    assert twin["mean_difference"] == pytest.approx(0.01) and twin["low"] < 0.01 < twin["high"]
    assert (twin["larger"], twin["smaller"]) == (3, 1)
    assert nnunet["mean_difference"] == pytest.approx(-0.175) and nnunet["high"] < 0


def test_the_page_has_scores_differences_distances_and_times():
    text, document = real_table.page(PROGRAMS, "python real.py", "a machine", ["load 1.0"])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2].startswith("| brats_jax | 0.650 | 0.650 | 0.650 | 0.650 |  |  |")
    nnunet = [row for row in rows if row.startswith("| nnU-Net 2D, smaller batch |")]
    assert "-0.175 (-0.2" in nnunet[0] and "0 / 4" in nnunet[0]
    # Training, its steps, its data, steps, batch, a step in ms, parameters, a case.
    assert nnunet[-1].endswith("| 60 | 50 |  | 20 | 4 | 2,500 |  | 3.5 (2.0 to 5.0) |")
    assert "a machine. 4 patients" in text and "for the networks as trained" in text
    assert "case 0" not in text and document["programs"]["ours"][0]["scores"]["case 0"]
