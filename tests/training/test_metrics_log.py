import json

from brats_jax.runs.folder import StageFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.training.metrics_log import MetricsLog


def log_of(directory, first, validated):
    return MetricsLog(StageFolder(directory), "fold 0 segment", 40, first, validated)


def test_a_resumed_log_drops_the_lines_it_will_write_again(tmp_path):
    log = log_of(tmp_path, 0, 0)
    log.write("step", 5, 1, {"mean_loss_of_epoch_so_far": 2.0})
    log.write("train", 10, 1, {"loss": 1.0})
    log.write("validation", 10, 1, {"loss": 1.5})
    log.write("step", 15, 2, {"mean_loss_of_epoch_so_far": 0.5})
    log.write("train", 20, 2, {"loss": 0.25})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "val')  # what a kill leaves

    # The checkpoint is of step 20, saved before its validation was done.
    log_of(tmp_path, 20, 10).close()
    kept = [(r["event"], r["step"]) for r in read_metrics(tmp_path / "metrics.jsonl")]
    assert kept == [("step", 5), ("train", 10), ("validation", 10), ("step", 15)]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


def test_tensorboard_records_the_numbers(tmp_path):
    log = log_of(tmp_path, 0, 0)
    log.write("validation", 10, 1, {"loss": 1.5})
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/loss" in events.read_bytes()


def test_outside_a_terminal_the_log_prints_one_line_an_epoch(tmp_path, capsys):
    log = log_of(tmp_path, 0, 0)
    for step in range(1, 21):
        log.step(step)
    log.epoch(20, "epoch 1/2  loss 0.5")
    log.close()
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("fold 0 segment: step 20/40  epoch 1/2  loss 0.5  0:0")
    assert out.count("\n") == 1
