"""brats_jax.report as a command, in a process of its own: absl's flags are global."""

import pytest
from processes import command
from report_examples import write_run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --workdir=RUN, the folder of a run, a grid, or several runs"),
        (["--workdir=x", "more"], "unexpected argument 'more'"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message):
    status, out, err = command("report", *arguments)
    assert (status, out) == (1, "") and message in err
    assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_the_command_prints_where_the_page_and_the_tables_are(tmp_path):
    run = write_run(tmp_path / "run")
    status, out, err = command("report", f"--workdir={run}")
    assert status == 0, err
    page, tables = out.splitlines()
    assert page.startswith(f"{run / 'report.html'}: ") and (run / "report.html").exists()
    assert tables.startswith(f"{run / 'report'}: ") and (run / "report" / "table_1.csv").exists()
