"""A link at the name of an output, dangling or not, is kept: this program writes none."""

import pytest
from report_examples import write_run

from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.errors import BratsError
from brats_jax.evaluation.published_files import publish
from brats_jax.evaluation.summary import summarise_run
from brats_jax.inference.output_file import OutputFile
from brats_jax.inference.sidecars import write_table
from brats_jax.reporting.page import write_report
from brats_jax.runs.documents import Calibration
from brats_jax.runs.folder import PredictionFolder, RunFolder
from brats_jax.runtime.files import atomic_group, write_text
from brats_jax.runtime.own_files import OwnFiles, check_own_document, check_replaceable

LINK = "is a link, which this program did not write: kept"


@pytest.fixture(params=["dangling", "to a file of the user's"])
def link(request, tmp_path):
    """Makes a link of the user's; checks in the end that it and its target are as before."""
    target, made = tmp_path / "disk" / "file", []
    if request.param != "dangling":
        target.parent.mkdir()
        target.write_text("mine")

    def make(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        made.append(path)
        return path

    yield make
    assert made and all(path.readlink() == target for path in made)
    assert target.read_text() == "mine" if target.parent.exists() else not target.exists()


def test_no_file_is_written_in_place_of_a_link(tmp_path, link):
    path = link(tmp_path / "out" / "a.json")
    with pytest.raises(BratsError, match=LINK):
        write_text(path, "{}")
    other = path.with_name("b")
    with pytest.raises(BratsError, match=LINK), atomic_group(path) as open_file:
        open_file(other).write(b"new")
        open_file(path).write(b"new")
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    with pytest.raises(BratsError, match=LINK):
        check_own_document(path, Calibration, "move it away")


def test_a_link_to_a_folder_is_followed_if_the_folder_is_there(tmp_path):
    folder = tmp_path / "out"
    folder.symlink_to(tmp_path / "disk")
    with pytest.raises(BratsError, match="is a link to a folder that is not there: kept"):
        write_text(folder / "a", "new")
    assert folder.is_symlink() and not (tmp_path / "disk").exists()
    (tmp_path / "disk").mkdir()
    write_text(folder / "a", "new")
    assert (tmp_path / "disk" / "a").read_text() == "new"


def test_a_link_is_a_foreign_file_of_a_folder(tmp_path, link):
    path = link(tmp_path / "out" / "a")
    own = OwnFiles(path.parent, path.with_name("written.json"), {"a": "0" * 64})
    assert not own.may_replace("a") and not own.is_cut("a", b"mine and more")
    assert own.remove(["a"]) == ["a"]
    with pytest.raises(BratsError, match=LINK):
        check_replaceable(own, ["a"], "give another --output")
    with pytest.raises(BratsError, match="kept"):
        OwnFiles(path.parent, path, {}).begin({})


@pytest.mark.usefixtures("empty_figures")
def test_a_report_keeps_links(tmp_path, capsys):
    run = write_run(tmp_path / "run", folds=(0,))
    (tmp_path / "elsewhere").mkdir()
    (run / "report").symlink_to(tmp_path / "elsewhere")  # a folder may be a link
    (run / "report.html").symlink_to(tmp_path / "nothing")
    (run / "report" / "table_1.csv").symlink_to(run / "config.json")
    assert write_report(run)[1] == ["report/table_1.csv", "report.html"]
    assert "kept, because" in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / "table_1.md").exists()
    assert (run / "report.html").is_symlink() and not (tmp_path / "nothing").exists()
    assert (run / "report" / "table_1.csv").is_symlink()


def test_tables_and_summaries_keep_links(tmp_path, link, capsys):
    run = RunFolder(write_run(tmp_path / "run", folds=(0,)))
    for path in (run.summary_csv, run.summary_json):
        link(path)
    summarise_run(run, 1)
    table = link(run.fold(0).slices_csv("segment"))
    publish(run.fold(0), table, b"new\n")
    publish(run.fold(0), table, None)
    assert capsys.readouterr().out.count("kept") >= 3


def test_predictions_and_phantoms_keep_links(tmp_path, link, monkeypatch):
    volume = link(tmp_path / "out" / "volume.nii.gz")
    with pytest.raises(BratsError, match="kept"):
        OutputFile(volume).check()
    folder = PredictionFolder(tmp_path / "out")
    link(folder.volumes_csv)
    monkeypatch.setattr("brats_jax.inference.sidecars.table_of", lambda *a, **k: "a\nmine\n")
    assert LINK in write_table(folder)
    (case,) = write_cases(tmp_path / "cases", patients=1, shape=(16, 32, 32))
    files = sorted(case.iterdir())
    link(files[1])
    files[2].unlink()
    with pytest.raises(BratsError, match="kept"):
        write_cases(tmp_path / "cases", patients=1, shape=(16, 32, 32))


@pytest.mark.parametrize("text", ["mine", "{}", '{"schema": "other"}'])
def test_a_file_of_the_users_in_place_of_the_list_of_files_is_kept(tmp_path, text, monkeypatch):
    monkeypatch.setattr("brats_jax.reporting.page.build", lambda study: [])
    run = write_run(tmp_path / "run", folds=(0,))
    mine = run / "report" / "written.json"
    mine.parent.mkdir()
    mine.write_text(text)
    with pytest.raises(BratsError, match=r"written\.json is there and was not written by"):
        write_report(run)
    assert mine.read_text() == text and not (run / "report.html").exists()
