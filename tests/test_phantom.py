"""The phantom command; tests/data/sources/phantom/ tests the files it writes."""

import pytest
from processes import command


def test_phantom_patients_are_written_as_brats_files(tmp_path):
    scans = tmp_path / "scans"
    status, out, err = command("phantom", f"--cases={scans}", "--patients=1", "--shape=16,32,32")
    assert (status, out, err) == (0, f"{scans / 'Phantom-0-001'}: written\n", "")
    assert len(list((scans / "Phantom-0-001").iterdir())) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--cases is missing"),
        (["--cases=x", "--shape=a,b,c"], "--shape=a,b,c: give 3 positive whole numbers"),
        (["--cases=x", "--shape=4,32,32"], "give three sizes from 16 to 480"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message):
    status, out, err = command("phantom", *arguments)
    assert (status, out) == (1, "") and message in err
    assert err.startswith("error: ") and len(err.splitlines()) == 1
