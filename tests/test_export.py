"""The export command; tests/inference/test_stablehlo.py tests the programs it writes."""

import pytest
from processes import command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=nowhere", "--output=x"], "'nowhere': no run there"),
        ([], "give --checkpoint=RUN[/fold_K] and --output=DIR"),
        (["--checkpoint=nowhere"], "error: give --output=DIR"),
        (["--checkpoint=a", "--output=x", "--name=b"], "--name has no effect with --format=stable"),
        (
            ["--checkpoint=a", "--output=x", "--format=hub", "--dtype=float32"],
            "--dtype has no effect",
        ),
        (
            ["--checkpoint=a", "--output=x", "--format=hub", "--card_text=none.md"],
            "none.md cannot be read (No such file",
        ),
        (
            ["--checkpoint=a", "--output=x", "--format=onnx", "--dtype=bfloat16"],
            "--dtype=bfloat16 has no effect with --format=onnx",
        ),
        (["--checkpoint=a", "--output=x", "--slice_shape=240"], "give 2 positive whole numbers"),
        (["--checkpoint=a", f"--output={__file__}"], ".py is a file: choose another --output"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message):
    status, out, err = command("export", *arguments)
    assert (status, out) == (1, "") and message in err
    assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_a_run_becomes_weights_with_a_card_that_stand_in_its_place(
    example_runs, shared_folder, tmp_path
):
    run, folder = example_runs["volume"] / "run" / "fold_0", tmp_path / "small"
    status, _, err = command(
        "export", f"--checkpoint={run}", f"--output={folder}", "--format=hub", cache=shared_folder
    )
    assert (status, err) == (0, "")
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "Not evaluated" in (folder / "README.md").read_text()


def test_a_run_becomes_a_program_a_description_and_weights(example_runs, shared_folder, tmp_path):
    run = example_runs["volume"] / "run" / "fold_0"
    status, out, err = command(
        "export", f"--checkpoint={run}", f"--output={tmp_path}", cache=shared_folder
    )
    assert (status, err) == (0, "")
    names = {"segment.stablehlo", "segment.json", "segment_fold_0.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {line.split(": ")[0] for line in out.splitlines()[:3]} == {
        str(tmp_path / name) for name in names
    }
