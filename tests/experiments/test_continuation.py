"""The settings and patients with which runs and grids are continued."""

from experiment_examples import config_of

from brats_jax.experiments.config import parse
from brats_jax.experiments.continuation import as_begun, recorded_fingerprint
from brats_jax.runs.documents import GridConfig, RunConfig
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.store_facts import StoreFacts


def test_a_new_run_keeps_to_the_patients_of_its_grid_or_of_the_pretraining_it_takes(
    small_store, tmp_path
):
    settings = parse(config_of(small_store, tmp_path, pretrain__run=str(tmp_path / "other")))
    run = RunFolder(tmp_path / "grid" / "runs" / "new")
    assert recorded_fingerprint(settings, run) == ""
    facts = [StoreFacts(name, {"kind": "phantom"}, "slice") for name in ("other", "grid", "own")]
    RunConfig(dict(settings.document), facts[0]).write(tmp_path / "other" / "config.json")
    assert recorded_fingerprint(settings, run) == "other"
    GridConfig(dict(settings.document), facts[1], {}, ()).write(tmp_path / "grid" / "grid.json")
    assert recorded_fingerprint(settings, run) == "grid"
    RunConfig(dict(settings.document), facts[2]).write(run.config_json)
    assert recorded_fingerprint(settings, run) == "own"


def test_what_an_earlier_version_began_goes_on_choosing_on_the_validation_set(
    small_store, tmp_path, capsys
):
    settings = parse(config_of(small_store, tmp_path, data__label_fraction=0.3))
    earlier = {**settings.document, "data": {**settings.document["data"]}}
    del earlier["data"]["selection"]
    assert as_begun(settings, None) == settings
    assert as_begun(settings, settings.document) == settings
    assert capsys.readouterr().out == ""
    goes_on = as_begun(settings, earlier)
    assert goes_on.data.selection == "validation"
    assert goes_on.document["data"]["selection"] == "validation"
    assert "goes on with config.data.selection=validation" in capsys.readouterr().out
