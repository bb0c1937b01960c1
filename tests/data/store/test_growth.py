import pathlib

import numpy as np
import pytest
import unlabelled_examples as examples

from brats_jax.data.store import growth, writer
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store, verify
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def sources():
    """Two labelled cases; one unlabelled case and another scan of one of the two; a third."""
    cases = examples.made_cases(5)
    return {
        "A": examples.source_of(*cases[:2], name="A"),
        "B": examples.source_of(
            examples.changed(cases[2], "U2", kind="none"),
            examples.changed(cases[3], "U3", kind="none", lacks=("t2",)),
            name="B",
        ),
        "C": examples.source_of(cases[4], name="C"),
    }


def state_of(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_source_is_added_without_redoing_what_is_there(tmp_path, sources):
    a, b, c = sources.values()
    path, said = tmp_path / "store", []
    prepare(a, path, workers=1)
    before, small = state_of(path / "cases"), Store.open(path)
    fingerprint, slices = small.fingerprint, small.read(range(small.num_slices))
    manifest = prepare([b, a], path, workers=1, say=said.append)  # in any order
    assert manifest.patients == ("P0", "P1", "U2", "U3") and manifest.source_of == (0, 0, 1, 1)
    assert manifest.label_kinds == ("classes", "classes", "none", "none")
    assert {name: state_of(path / "cases")[name] for name in before} == before
    assert sorted(p.name for p in path.iterdir()) == [
        *("cases", "index.npz", "index_2.npz", "manifest.json"),
        *("tumour_pixels.npy", "tumour_pixels_2.npy"),
    ]
    prepare([a, b], tmp_path / "at once", workers=1)
    grown = Store.open(path)
    assert grown.fingerprint == Store.open(tmp_path / "at once").fingerprint != fingerprint
    assert verify(path) == 2 * 3 + 2 * 2 + 2
    said.clear()
    prepare([a, b], path, workers=1, say=said.append)
    assert said == [f"{path} is complete: nothing to do"]
    prepare([a, b, c], path, workers=1)
    assert Store.open(path).patients[-1] == "P4"
    # What a run was started on is still there: the first patients.
    for store in (grown.as_of(fingerprint), Store.open(path).as_of(fingerprint)):
        assert store.fingerprint == fingerprint and store.patients == ["P0", "P1"]
        assert store.num_slices == small.num_slices and store.manifest.source["kind"] == "A"
        for read, expected in zip(store.read(range(store.num_slices)), slices, strict=True):
            np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(store.tumour_offsets, small.tumour_offsets)
        with pytest.raises(IndexError):
            store.read([small.num_slices])
    assert Store.open(path).as_of(grown.fingerprint).patients == grown.patients
    assert grown.as_of("unknown") is grown


def test_other_commands_on_a_store_that_holds_two_sources_are_refused(tmp_path, sources):
    a, b, c = sources.values()
    prepare([a, b], tmp_path / "store", workers=1)
    for given in (a, [a, c], c):
        with pytest.raises(BratsError, match=r"prepared from other sources \(A, B\)"):
            prepare(given, tmp_path / "store", workers=1)
    with pytest.raises(BratsError, match="normalisation was slice, now volume"):
        prepare([a, b, c], tmp_path / "store", normalisation="volume", workers=1)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["second case", "manifest", "after the manifest"])
def test_a_store_is_usable_while_it_grows_and_the_same_command_continues(
    tmp_path, sources, monkeypatch, where
):
    a, b, c = sources.values()
    path = tmp_path / "store"
    prepare(a, path, workers=1)
    fingerprint = Store.open(path).fingerprint

    def killed(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patched:
        if where == "second case":
            reads = b.read
            patched.setattr(b, "read", lambda name: reads(name) if name == "U2" else killed())
        elif where == "manifest":
            writes = writer.write_document
            patched.setattr(
                writer,
                "write_document",
                lambda p, d: killed() if p.name == "manifest.json" else writes(p, d),
            )
        else:
            unlink = pathlib.Path.unlink
            patched.setattr(
                pathlib.Path,
                "unlink",
                lambda p, **o: killed() if p.name == "preparation.json" else unlink(p, **o),
            )
        with pytest.raises(Killed):
            prepare([a, b], path, workers=1)
    store, said = Store.open(path), []
    if where == "after the manifest":
        assert store.patients == ["P0", "P1", "U2", "U3"]
    else:
        assert store.fingerprint == fingerprint and verify(path) == 8
        prepare(a, path, workers=1, say=said.append)
        assert "sources were being added" in said[0] and "nothing to do" in said[1]
        with pytest.raises(BratsError, match="from other sources"):
            prepare([a, c], path, workers=1)
        said.clear()
    time = (path / "cases" / "U2.images.npy").stat().st_mtime_ns
    prepare([a, b], path, workers=1, say=said.append)
    assert (path / "cases" / "U2.images.npy").stat().st_mtime_ns == time
    assert not (path / "preparation.json").exists()
    prepare([a, b], tmp_path / "fresh", workers=1)
    assert Store.open(path).fingerprint == Store.open(tmp_path / "fresh").fingerprint


def test_a_source_that_cannot_be_added_leaves_the_store_as_it_was(tmp_path, sources):
    a, b, _ = sources.values()
    path = tmp_path / "store"
    prepare(a, path, workers=1)
    before = state_of(path)
    copy = examples.source_of(a.read("P0"), name="copy")
    with pytest.raises(BratsError, match="the case P0 is in A and in copy"):
        prepare([a, copy], path, workers=1)
    small = examples.made_cases(1)[0]
    small = examples.changed(small, "small")
    object.__setattr__(small, "images", small.images[:, :40])
    object.__setattr__(small, "labels", small.labels[:, :40])
    with pytest.raises(BratsError, match="a store has one slice shape"):
        prepare([a, examples.source_of(small, name="D")], path, workers=1)
    assert state_of(path) == before
    manifest = prepare([a, b, copy], path, workers=1, skip_bad_cases=True)
    assert list(manifest.skipped) == ["P0 of copy"] and len(manifest.patients) == 4


def test_a_case_that_changed_in_its_source_is_kept_and_named(tmp_path, brats_files):
    for name in ("P0", "P1"):
        brats_files.write_nifti_case(tmp_path / "n", name, brats_files.make_case(int(name[1])))
    prepare(tmp_path / "n", tmp_path / "store", workers=1)
    kept = (tmp_path / "store/cases/P0.images.npy").read_bytes()
    brats_files.write_nifti_case(tmp_path / "n", "P0", brats_files.make_case(9))
    brats_files.write_nifti_case(tmp_path / "m", "P2", brats_files.make_case(2))
    said = []
    prepare([tmp_path / "n", tmp_path / "m"], tmp_path / "store", workers=1, say=said.append)
    assert any("files of 1 case changed after the store was prepared (P0)" in line for line in said)
    assert (tmp_path / "store/cases/P0.images.npy").read_bytes() == kept
    assert growth.index_names(None) == ("index.npz", "tumour_pixels.npy")


def test_add_needs_no_names_of_what_the_store_holds(tmp_path):
    phantom = {"patients": 2, "seed": 3, "shape": (16, 48, 48), "workers": 1}
    prepare("phantom", tmp_path / "store", normalisation="volume", **phantom)
    files = state_of(tmp_path / "store" / "cases")
    cases = examples.source_of(*examples.made_cases(1), name="A")
    manifest = prepare(cases, tmp_path / "store", add=True, workers=1)
    assert manifest.patients == ("Phantom_001", "Phantom_002", "P0")
    assert manifest.normalisation == "volume"
    assert {name: state_of(tmp_path / "store" / "cases")[name] for name in files} == files


def test_add_to_no_store_is_refused(tmp_path):
    with pytest.raises(BratsError, match="--add: there is no store"):
        prepare("phantom", tmp_path / "store", patients=2, add=True)
    assert not (tmp_path / "store").exists()
