"""The table of results and targets."""

from benchmarks.gpu import targets


def results():
    step = {"ratio": [0.5, 0.625, 0.8], "rate": 7000.0, "share": 0.4, "text": "1.60 x PyTorch"}
    pair = {"text": "-0.0033 (0.0291), 3 pairs"}
    return {
        "segment16": step,
        "segment128": step,
        "epoch segment device": {"waiting_share": 0.03, "text": "waiting 3 %"},
        "projection device": {"hours": 1.5, "text": "1.50 hours"},
        # A form is slower if the lower quartile of its ratio is above 1.
        "form pooling": {"ratio": [0.9, 1.2, 1.4], "text": "1.20"},
        "form 1x1": {"ratio": [1.1, 1.25, 1.4], "text": "1.25"},
        "gradients segment 500": {"error": 0.25, "noise": 0.9, "text": "error 0.250"},
        # Differences -0.03, 0, +0.02; two standard errors 0.02906.
        "precision unseen Dice mean foreground": {
            **pair,
            "float32": [0.6, 0.7, 0.65],
            "bfloat16": [0.57, 0.7, 0.67],
        },
        # Differences -0.002 and 0.002; two standard errors 0.004.
        "continued mean foreground": {
            **pair,
            "float32": [0.5, 0.6],
            "bfloat16": [0.498, 0.602],
        },
    }


def table(found, problems=None, on_cpu=False):
    text = targets.as_table(targets.rows(on_cpu), found, problems or {})
    return text, {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}


def test_the_table_shows_met_missed_and_unmeasured_targets():
    text, lines = table(results(), {"start": "took longer than 9 s"})
    met = {quantity: line.split(" | ")[-1].strip(" |") for quantity, line in lines.items()}
    assert "| 1.60 x PyTorch | 1.5 x PyTorch, 6,000 patches/s | yes |" in text
    assert met["segmentation step, batch 128"] == "NO"  # fast, but below half of the roofline
    assert met["an epoch, patches cut on the device"] == "NO"
    assert "form pooling: 1.20; form 1x1: 1.25" in lines["hand-written forms over other forms"]
    assert met["hand-written forms over other forms"] == "NO"
    assert met["the paper's 35 trainings, projected"] == "yes"
    assert met["error of a gradient in bfloat16"] == "yes"
    assert met["bfloat16 minus float32, Dice of unseen phantoms"] == "NO"
    assert met["the same, continued from one float32 network"] == "yes"
    assert "not measured" in lines["pretraining step, batch 16"]
    assert met["pretraining step, batch 16"] == ""
    assert text.endswith("start: took longer than 9 s")


def test_a_single_pair_of_trainings_neither_meets_nor_misses_the_target():
    one = {"float32": [0.6], "bfloat16": [0.6], "text": "1 pair"}
    text, _ = table({"precision unseen Dice mean foreground": one})
    assert "| 1 pair | no loss" in text and "yes" not in text and "NO" not in text


def test_the_target_of_surface_distances_depends_on_the_device():
    assert "at least 100 x" in table({})[0] and "at least 100 x" not in table({}, on_cpu=True)[0]
