import secrets

import pytest

from brats_jax.errors import BratsError
from brats_jax.runs.bucket import Bucket, Superseded
from brats_jax.runtime.files import sha256_of


@pytest.fixture
def url():
    """An empty bucket in memory."""
    return f"memory://{secrets.token_hex(8)}/run"


def files_of(folder, **texts):
    """Writes files, and returns them as `Bucket.push` takes them."""
    found = {}
    for name, text in texts.items():
        path = folder / text.replace(" ", "_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        found[name.replace("__", "/")] = (path, sha256_of(path))
    return found


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_state_comes_back_whole_and_old_objects_are_removed(url, tmp_path):
    bucket = Bucket(url)
    first = bucket.push(files_of(tmp_path, a="one", last__5="two"), None)
    second = bucket.push(files_of(tmp_path, a="one", last__7="three"), first)
    assert len(bucket.list("objects")) == 3  # two states are kept
    third = bucket.push(files_of(tmp_path, a="one", last__9="four"), second)
    assert len(bucket.list("objects")) == 3 and len(bucket.list("manifests")) == 2
    assert Bucket(url).newest() == third and third.generation == 3
    Bucket(url).pull(third, tmp_path / "new")
    assert contents(tmp_path / "new") == {"a": "one", "last/9": "four"}


@pytest.mark.parametrize("after", range(4))
def test_an_upload_that_is_killed_leaves_the_state_before_and_goes_on(
    url, tmp_path, monkeypatch, after
):
    """Fails in write number `after`: of three objects, then of the manifest."""
    first = Bucket(url).push(files_of(tmp_path, a="one", b="two"), None)
    bucket, calls = Bucket(url), []

    def fails(work):
        def call(*given, **more):
            calls.append(given)
            if len(calls) > after:
                raise KeyboardInterrupt
            return work(*given, **more)

        return call

    with monkeypatch.context() as patched:
        for name in ("put_file", "pipe_file", "rm_file"):
            patched.setattr(bucket.fs, name, fails(getattr(bucket.fs, name)))
        with pytest.raises(KeyboardInterrupt):
            bucket.push(files_of(tmp_path, a="three", b="four", c="five"), first)
            bucket.push(files_of(tmp_path, a="six"), bucket.newest())
    found = Bucket(url).newest()
    Bucket(url).pull(found, tmp_path / "new")
    assert contents(tmp_path / "new") == {"a": "one", "b": "two"}
    again = Bucket(url).push(files_of(tmp_path, a="three", b="four", c="five"), found)
    assert len(Bucket(url).list("objects")) == 5 and Bucket(url).newest() == again


def test_an_object_that_was_cut_is_uploaded_again(tmp_path):
    files = files_of(tmp_path / "data", a="one", b="two")
    bucket = Bucket(f"file://{tmp_path}/bucket")
    digest = files["a"][1]
    cut = tmp_path / "bucket" / "objects" / digest[:2] / digest
    cut.parent.mkdir(parents=True)
    cut.write_text("o")
    bucket.pull(bucket.push(files, None), tmp_path / "new")
    assert contents(tmp_path / "new") == {"a": "one", "b": "two"}


def test_a_download_goes_on_and_refuses_other_bytes(tmp_path, monkeypatch):
    bucket = Bucket(f"file://{tmp_path}/bucket")
    state = bucket.push(files_of(tmp_path / "data", a="one", b="two"), None)
    digest = state.digests["b"]
    (damaged,) = (tmp_path / "bucket").rglob(digest)
    damaged.write_text("tow")
    with pytest.raises(BratsError, match=r"b is damaged \(its SHA-256 differs\)"):
        bucket.pull(state, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    damaged.write_text("two")
    opened = []
    original = bucket.fs.open
    monkeypatch.setattr(bucket.fs, "open", lambda *a: opened.append(a) or original(*a))
    bucket.pull(state, tmp_path / "new")
    assert contents(tmp_path / "new") == {"a": "one", "b": "two"}
    assert len(opened) <= 1 or "a" not in state.digests  # a was there


def test_a_state_without_one_of_its_objects_is_passed_over(tmp_path):
    bucket = Bucket(f"file://{tmp_path}/bucket")
    first = bucket.push(files_of(tmp_path / "data", a="one"), None)
    second = bucket.push(files_of(tmp_path / "data", a="two"), first)
    (lost,) = (tmp_path / "bucket").rglob(second.digests["a"])
    lost.unlink()
    assert bucket.newest() == first
    bucket.settle(first)
    assert bucket.push(files_of(tmp_path / "data", a="two"), first).generation == 2
    for path in (tmp_path / "bucket" / "manifests").iterdir():
        path.write_text(path.read_text().replace('"a"', '"../a"'))
    with pytest.raises(BratsError, match="no state in it is whole"):
        bucket.newest()


def test_of_two_machines_one_ends(url, tmp_path):
    one, other = Bucket(url), Bucket(url)
    first = one.push(files_of(tmp_path, a="one"), None)
    second = other.push(files_of(tmp_path, a="two"), first)
    with pytest.raises(Superseded, match="another machine has written into it"):
        one.push(files_of(tmp_path, a="three"), first)
    # Both at the same moment: the later look finds the other's, and takes its own back.
    looks = []

    def check():
        looks.append(other.push(files_of(tmp_path, a="five"), second))

    mine = Bucket(url)
    checked = mine._check_newest
    mine._check_newest = lambda *given: checked(*given) if len(given) > 1 else None
    with pytest.raises(Superseded):
        mine.push(files_of(tmp_path, a="four"), second, check)
    assert Bucket(url).newest() == looks[0]


def test_a_url_without_its_library_is_one_line(monkeypatch):
    with pytest.raises(BratsError, match="nosuch://bucket/run: ValueError: Protocol not known"):
        Bucket("nosuch://me:word@bucket/run")

    def missing(url):
        raise ImportError("Install s3fs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(BratsError, match=r"s3:// is not installed; pip install 'brats_jax\[buck"):
        Bucket("s3://bucket/run")


@pytest.mark.parametrize("url", ["", "s3:/bucket/run", "bucket/run", "file://", "s3:///", "://run"])
def test_a_misspelt_url_is_no_folder_of_this_machine(url):
    with pytest.raises(BratsError, match="give a URL, such as s3://BUCKET/PATH, or file:///PATH"):
        Bucket(url)


def test_a_download_replaces_an_empty_folder_alone(url, tmp_path):
    bucket = Bucket(url)
    state = bucket.push(files_of(tmp_path / "run", a="one"), None)
    target = tmp_path / "target"
    target.mkdir()
    bucket.pull(state, target)
    assert contents(target) == {"a": "one"}
    with pytest.raises(BratsError, match="exists: move it away"):
        bucket.pull(state, target)
