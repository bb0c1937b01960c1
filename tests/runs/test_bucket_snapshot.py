from brats_jax.runs import bucket_snapshot
from brats_jax.runs.bucket_snapshot import Snapshots, state_of
from brats_jax.runtime.files import sha256_of, write_text


def run_folder(tmp_path):
    folder = tmp_path / "run"
    for name in (
        "config.json", "fold_0/lock", "fold_0/lock.alive", "fold_0/lock.alive.0a1b",
        "fold_0/.x.json.brats_jax-00000000-abcdefgh", "cells/a.lock",
        "fold_0/segment/last/5/state", "fold_0/segment/last/7.orbax-checkpoint-tmp-1/state",
        "fold_0/segment/metrics.jsonl", "fold_0/segment/tensorboard/events",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "link").symlink_to(tmp_path)
    return folder


def test_a_snapshot_has_what_a_run_consists_of_and_no_lock(tmp_path):
    folder = run_folder(tmp_path)
    state, files = Snapshots(folder, tmp_path / "copy").take()
    assert set(state) == {"config.json", "fold_0/segment/last/5/state"}
    logs = {"fold_0/segment/metrics.jsonl", "fold_0/segment/tensorboard/events"}
    assert set(files) == {*state, *logs}
    assert all(digest == sha256_of(folder / name) for name, (_, digest) in files.items())


def test_a_snapshot_keeps_its_content_while_the_folder_goes_on(tmp_path):
    folder = run_folder(tmp_path)
    snapshots = Snapshots(folder, tmp_path / "copy")
    state, files = snapshots.take()
    write_text(folder / "config.json", "new")
    with (folder / "fold_0/segment/metrics.jsonl").open("a") as file:
        file.write("more")
    for path, digest in files.values():
        assert sha256_of(path) == digest
    assert state_of(folder) != state
    again = snapshots.take()[1]
    assert again["config.json"][1] != files["config.json"][1]


def test_a_snapshot_is_taken_again_if_a_checkpoint_is_replaced_meanwhile(tmp_path, monkeypatch):
    folder = run_folder(tmp_path)
    last = folder / "fold_0/segment/last"
    moves = iter((7, 9))
    original = bucket_snapshot.os.link

    def link(source, target):
        if (step := next(moves, None)) is not None:  # what the training does between two links
            (last / str(step)).mkdir()
            (last / str(step) / "state").write_text(str(step))
        original(source, target)

    monkeypatch.setattr(bucket_snapshot.os, "link", link)
    state, files = Snapshots(folder, tmp_path / "copy").take()
    assert "fold_0/segment/last/9/state" in state and set(state) <= set(files)
    assert state == state_of(folder)
