from brats_jax.runs.metrics_jsonl import read_metrics


def test_damaged_lines_are_skipped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = b'{"event": "train", "step": 1, "epoch": 1, "loss": 0.5}'
    path.write_bytes(b"\n".join([line, b"[]", b"3", b'{"step": 2}', b"\xff\x00", line, line[:20]]))
    assert [r["step"] for r in read_metrics(path)] == [1, 1]
