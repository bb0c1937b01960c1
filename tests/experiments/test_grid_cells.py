from pathlib import Path

import pytest
from grid_examples import SSL, THREE, FakeStore, config
from ml_collections import ConfigDict

from brats_jax.errors import BratsError
from brats_jax.experiments.grid_cells import (
    cells_of_shard,
    check_cells,
    extend,
    flags_of,
    parse_axes,
    parse_shard,
    settings_of,
)
from brats_jax.runs.axes import AS_SET, Axes
from brats_jax.runs.documents import GridConfig
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import Cell, enumerate_cells, read_cells
from brats_jax.runs.settings_comparison import differences
from brats_jax.runtime.document import read_document

ALL = ("dice_ce,dice_focal,focal", "false,true", "1", "0")


def axes(losses=ALL[0], ssl=ALL[1], fractions=ALL[2], seeds=ALL[3], folds=(0, 1, 2, 3, 4)):
    return parse_axes(*(x.split(",") for x in (losses, ssl, fractions, seeds)), folds)


def test_the_papers_experiment_is_35_trainings():
    assert axes() == Axes()
    cells = enumerate_cells([Axes()])
    assert [c.stage for c in cells] == ["pretrain"] * 5 + ["segment"] * 30
    assert [c.ssl for c in cells] == [False] * 20 + [True] * 15
    assert len({c.name for c in cells}) == len({c.directory for c in cells}) == 35
    assert {(c.loss, c.ssl, c.fold) for c in cells[5:]} == {
        (loss, ssl, fold)
        for loss in ("dice_ce", "dice_focal", "focal")
        for ssl in (False, True)
        for fold in range(5)
    }
    # Three runs with pretraining share each of the five; and a fold is whole before the next.
    assert [c.source for c in cells[20:]] == [cells[k // 3] for k in range(15)]
    assert [c.fold for c in cells[5:20]] == [k // 3 for k in range(15)]


def test_a_cell_determines_its_name_folder_and_flags():
    pretraining, *_, last = enumerate_cells([axes(fractions="5%", seeds="3", folds=(2,))])
    assert pretraining.name == "pretraining-seed_3-fold_2"
    assert pretraining.directory == Path("pretraining/seed_3/fold_2")
    assert flags_of(pretraining, GridFolder(Path("G"))) == [
        "--workdir=G/pretraining/seed_3", "--config.folds=2", "--config.seed=3",
        "--mode=pretrain", "--config.ssl=true",
    ]  # fmt: skip
    assert last.name == "focal-ssl-labels_005-seed_3-fold_2"
    assert last.directory == Path("runs/focal-ssl-labels_005-seed_3/fold_2")
    assert flags_of(last, GridFolder(Path("G"))) == [
        "--workdir=G/runs/focal-ssl-labels_005-seed_3", "--config.folds=2", "--config.seed=3",
        "--config.loss=focal", "--config.ssl=true", "--config.data.label_fraction=0.05",
        "--config.pretrain.run=G/pretraining/seed_3",
    ]  # fmt: skip
    baseline = Cell("segment", 0, 1, "dice_ce", False, 100)
    assert baseline.name == "dice_ce-base-labels_100-seed_0-fold_1" and baseline.source is None
    assert not [f for f in flags_of(baseline, GridFolder(Path("G"))) if "pretrain" in f]


def test_labels_and_seeds_multiply_segmentations_and_only_seeds_pretrainings():
    cells = enumerate_cells([axes(fractions="0.01,0.05,0.1,0.25,0.5,1", seeds="0,1,2")])
    assert sum(c.stage == "pretrain" for c in cells) == 5 * 3
    assert sum(c.stage == "segment" for c in cells) == 30 * 6 * 3
    assert {c.percent for c in cells} == {1, 5, 10, 25, 50, 100}


def test_without_ssl_there_is_no_pretraining():
    assert {c.stage for c in enumerate_cells([axes(ssl="false")])} == {"segment"}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 34, 35, 36, 100])
def test_shards_are_disjoint_and_complete(count):
    cells = enumerate_cells([Axes()])
    shards = [cells_of_shard(cells, index, count) for index in range(count)]
    assert sorted(c.name for shard in shards for c in shard) == sorted(c.name for c in cells)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_five_workers_share_each_kind_of_cell_equally():
    for index in range(5):
        shard = cells_of_shard(enumerate_cells([Axes()]), index, 5)
        assert [(c.stage, c.ssl) for c in shard] == (
            [("pretrain", False)] + [("segment", False)] * 3 + [("segment", True)] * 3
        )


@pytest.mark.parametrize(
    "text", ["", "1", "4/4", "-1/4", "0/0", "a/b", "0/4/2", "1/", "/3", "0.5/2"]
)
def test_a_malformed_shard_is_refused(text):
    with pytest.raises(BratsError, match=r"--shard=.*: give i/n"):
        parse_shard(text)


def test_shards_count_from_zero():
    assert [parse_shard(f"{i}/3") for i in range(3)] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("text", "percent"),
    [("1", 100), ("100%", 100), ("0.01", 1), ("1%", 1), ("0.29", 29), ("7%", 7)],
)
def test_a_label_fraction_is_read_as_whole_percent(text, percent):
    assert axes(fractions=text).percents == (percent,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": "dice"}, "--losses=dice: valid values are dice_ce, dice_focal, focal"),
        ({"ssl": "yes"}, "--ssl=yes: valid values are false, true"),
        ({"seeds": "-1"}, "--seeds=-1: give whole numbers"),
        ({"seeds": "0,0"}, "--seeds: give at least one value, and each once"),
        ({"seeds": ""}, "--seeds=: give whole numbers"),
        ({"fractions": "1%,0.01"}, "--label_fractions: give at least one value, and each once"),
        *(
            ({"fractions": text}, f"--label_fractions={text}: give whole percents")
            for text in ("5", "0", "0.005", "0%", "101%", "-0.1", "0.125", "few", "nan", "inf")
        ),
    ],
)
def test_invalid_axes_are_refused_with_the_valid_values(changes, message):
    with pytest.raises(BratsError, match=message):
        axes(**changes)


def more_axes(**more):
    """Axes of one loss, fold and seed."""
    plain = (["focal"], ["false", "true"], more.pop("fractions", []), ["0"], (0,))
    return parse_axes(*plain, **{name: text.split(",") for name, text in more.items()})


def test_label_budgets_in_patients_stand_beside_those_in_percent():
    budgets = more_axes(label_patients="1,10,all")
    assert (budgets.patients, budgets.percents) == ((1, 10), (100,))
    cells = enumerate_cells([budgets])
    assert [c.run.name for c in cells if not c.ssl and c.stage == "segment"] == [
        f"focal-base-{labels}-seed_0" for labels in ("labels_100", "patients_001", "patients_010")
    ]
    # One pretraining for all budgets, and the flags of a budget.
    assert [c.run.name for c in cells if c.stage == "pretrain"] == ["seed_0"]
    flags = flags_of(cells[-1], GridFolder(Path("G")))
    assert "--config.data.label_patients=10" in flags
    assert not [flag for flag in flags if "label_fraction" in flag]


def test_segmentations_share_the_pretraining_that_has_their_settings():
    given = Axes(
        losses=("focal", "dice_ce"), ssl=(False, True), folds=(0,), patients=(1, 3), percents=(),
        pretexts=("", "masked+unet"), transfers=("", "stem"), unlabelled=(AS_SET, 0),
    )  # fmt: skip
    cells = enumerate_cells([given])
    pretrainings = [c for c in cells if c.stage == "pretrain"]
    assert [c.run.name for c in pretrainings] == [
        "seed_0", "unlabelled_000-seed_0",
        "masked-unet-seed_0", "masked-unet-unlabelled_000-seed_0",
    ]  # fmt: skip
    base = [c for c in cells if c.stage == "segment" and not c.ssl]
    ssl = [c for c in cells if c.ssl]
    assert (len(base), len(ssl)) == (2 * 2, 2 * 2 * 2 * 2 * 2)
    assert len({c.name for c in cells}) == len(cells)
    for cell in ssl:
        assert cell.source in pretrainings
        assert (cell.source.pretext, cell.source.unlabelled) == (cell.pretext, cell.unlabelled)
    last = ssl[-1]
    assert last.run.name == "dice_ce-ssl-masked-unet-unlabelled_000-stem-patients_003-seed_0"
    shared = {
        "--config.pretrain.task=masked", "--config.pretrain.decoder=unet",
        "--config.pretrain.unlabelled_fraction=0.0",
    }  # fmt: skip
    grid = GridFolder(Path("G"))
    flags = flags_of(last, grid)
    assert shared | {"--config.transfer.parts=stem"} <= {*flags}
    assert flags[-1] == f"--config.pretrain.run=G/pretraining/{last.source.run.name}"
    assert shared <= {*flags_of(last.source, grid)}
    assert not [
        flag for flag in flags_of(base[0], grid) if "pretrain" in flag or "transfer" in flag
    ]


def test_a_value_of_an_axis_that_the_settings_have_is_the_cell_without_the_axis():
    """A grid that was begun without an axis thus goes on with it."""
    shared = config(**{"transfer.parts": "stem", "pretrain.unlabelled_fraction": 0.5})
    plain = (["focal"], ["true"], ["1"], ["0"], (0,))
    before = parse_axes(*plain, shared=shared)
    after = parse_axes(
        *plain, transfers=["stem", "encoder"], unlabelled_fractions=["0.5", "1"], shared=shared
    )
    assert (after.transfers, after.unlabelled) == (("", "encoder"), (AS_SET, 100))
    assert {*enumerate_cells([before])} < {*enumerate_cells([after])}
    same = parse_axes(*plain, transfers=["stem"], unlabelled_fractions=["50%"], shared=shared)
    assert same == before


@pytest.mark.parametrize(
    ("task", "decoder", "asked", "expected"),
    [
        (
            "cross_modality",
            "transposed",
            "cross_modality,masked,masked+unet",
            ",masked,masked+unet",
        ),
        ("masked", "transposed", "cross_modality,masked", "cross_modality,"),
        ("cross_modality", "unet", "cross_modality+unet,masked+unet", ",masked"),
        ("cross_modality", "unet", "cross_modality+transposed", "cross_modality+transposed"),
    ],
)
def test_every_pretext_of_an_axis_is_trained_whatever_the_settings_are(
    task, decoder, asked, expected
):
    shared = config(**{"pretrain.task": task, "pretrain.decoder": decoder})
    plain = (["focal"], ["true"], ["1"], ["0"], (0,))
    found = parse_axes(*plain, pretexts=asked.split(","), shared=shared)
    assert found.pretexts == tuple(expected.split(","))
    trained = []
    for cell in enumerate_cells([found]):
        own = settings_of(cell)
        names = ("pretrain.task", "pretrain.decoder")
        if cell.stage == "pretrain":
            trained.append([own.get(name, shared.value(name)) for name in names])
    wanted = [text.partition("+")[::2] for text in asked.split(",")]
    assert trained == [[task, named or decoder] for task, named in wanted]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_patients": "0"}, "--label_patients=0: give numbers of patients and 'all'"),
        ({"label_patients": "few"}, "--label_patients=few: give numbers of patients"),
        ({"label_patients": "3,3"}, "--label_patients: give at least one value, and each once"),
        (
            {"transfers": "decoder"},
            "--transfers=decoder: valid values are encoder, ",
        ),
        ({"pretexts": "mask"}, "--pretexts=mask: valid values are cross_modality"),
        ({"pretexts": "cross_modality+vit"}, "each also with .transposed"),
        ({"unlabelled_fractions": "2"}, "--unlabelled_fractions=2: give whole percents .* 0 to 1"),
    ],
)
def test_further_axes_are_refused_with_the_valid_values(given, message):
    with pytest.raises(BratsError, match=message):
        more_axes(**{"fractions": ["1"], **given})


def test_what_does_not_go_together_is_refused_before_any_cell_starts(tmp_path):
    wrong = Axes(losses=("focal",), transfers=("", "encoder_decoder"), folds=(0,))
    document = {**config(**{"data.store": str(tmp_path)}).document}
    with pytest.raises(BratsError, match=r"ssl-encoder_decoder.*decoder=transposed"):
        check_cells(ConfigDict(document), wrong)
    with pytest.raises(BratsError, match="--ssl=false trains no pretraining"):
        parse_axes(["focal"], ["false"], ["1"], ["0"], (0,), transfers=["stem"])


def test_a_grid_grows_by_axes_and_keeps_its_settings(grid):
    assert read_cells(grid) == THREE
    more = Axes(losses=("dice_ce",), percents=(5,), folds=(0,))
    extend(grid, config(seed=7, loss="dice_focal", folds=(3,)), FakeStore(), more)
    assert len(read_cells(grid)) == 5 and set(THREE) < set(read_cells(grid))
    before = grid.grid_json.read_bytes()
    with pytest.raises(BratsError, match=r"other settings \(segment.epochs: 30 -> 3\)"):
        extend(grid, config(**{"segment.epochs": 3}), FakeStore(), more)
    other = FakeStore()
    other.fingerprint = "other"
    with pytest.raises(BratsError, match="was started on another store"):
        extend(grid, config(), other, more)
    assert grid.grid_json.read_bytes() == before


def test_the_grid_leaves_to_its_cells_only_the_settings_that_they_set(grid):
    given = {flag.split("=")[0].removeprefix("--config.") for flag in flags_of(SSL, grid)}
    kept = read_document(grid.grid_json, GridConfig).config
    left = {line.split(":")[0] for line in differences(kept, config().document)}
    assert left | {"folds"} == given - {"--workdir"}
