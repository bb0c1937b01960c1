"""Writes the report: one page, and a file for each table and figure.

WORKDIR/report.html                the page, self-contained
WORKDIR/report/NAME.{csv,md,tex}   the tables
WORKDIR/report/figures/            the figures
WORKDIR/report/written.json        the hashes of all these files
"""

from datetime import UTC, datetime
from pathlib import Path

import jinja2

from brats_jax import about
from brats_jax.reporting.caveats import not_evaluated
from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.read_runs import Study, discover
from brats_jax.reporting.sections import Section, build
from brats_jax.reporting.tables import formats
from brats_jax.reporting.tables.table import Table, letter
from brats_jax.runs.folder import ReportFolder, fold_name
from brats_jax.runtime.console import print_line
from brats_jax.runtime.own_files import OwnFiles
from brats_jax.runtime.text import plural, printable

_ENCODING = ("utf-8", "backslashreplace")  # names of files need not be valid text
_MARK = b"brats_jax"  # in the page of every version

_NAMED = 5  # lines on runs with folds that are not evaluated
_MAY_BE_EDITED = "this program did not write them or they have changed since"


def write_report(workdir: Path) -> tuple[Path, list[str]]:
    """Writes report.html and the folder report/ into a run, a grid, or a folder of runs.

    Replaces and removes files of an earlier report only, as they were written; others are kept,
    and named in one line.

    Returns:
      (path of the page, names within `workdir` of the files that were kept).

    Raises:
      BratsError: there is no run in the folder.
    """
    study = discover(workdir)
    sections = build(study)
    for problem in dict.fromkeys(study.problems):
        print_line(f"note: {printable(problem)}")
    _note_not_evaluated(study)
    folder = ReportFolder(workdir)
    files: dict[str, bytes] = {}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Table):
                for name, text in formats.files(block).items():
                    files[_name(folder.tables / name, workdir)] = text.encode(*_ENCODING)
            elif isinstance(block, Figure):
                files[_name(folder.figures / block.file_name, workdir)] = block.data
    files[_name(folder.report_html, workdir)] = render(study, sections).encode(*_ENCODING)
    own = OwnFiles(workdir, folder.ledger_json)
    if not own.has_ledger:
        _adopt_earlier_report(own, folder)
    if own.damage:
        own.adopt_equal(files)
    kept = [name for name in files if not own.may_replace(name)]
    own.write({name: data for name, data in files.items() if name not in kept})
    # An earlier report may have tables that this one lacks.
    kept += own.remove([name for name in own.names if name not in files])
    if kept:
        print_line(
            f"kept, because {own.damage or _MAY_BE_EDITED}: {', '.join(kept)}; move them away, "
            "and give the same command again for new ones"
        )
    return folder.report_html, kept


def _note_not_evaluated(study: Study) -> None:
    """Prints what has no evaluation yet, and where nothing has one, that no number is measured."""
    if not any(fold.evaluation for run in study.runs for fold in run.folds.values()):
        print_line("note: nothing is evaluated yet: the tables have the paper's numbers alone")
    lines = [*not_evaluated(study, fold_name)]
    for line in lines[:_NAMED]:
        print_line(f"note: {printable(line)}")
    if len(lines) > _NAMED:
        print_line(f"note: {plural(len(lines) - _NAMED, 'more run')} with folds not evaluated")


def _name(path: Path, workdir: Path) -> str:
    return path.relative_to(workdir).as_posix()


def _adopt_earlier_report(own: OwnFiles, folder: ReportFolder) -> None:
    """Finds the files of a report of version 0.1.0, which kept no ledger.

    It removed all others of these endings and wrote the page last: later ones are not its own.
    """
    try:
        page, made = folder.report_html.read_bytes(), folder.report_html.stat().st_mtime
    except OSError:
        return
    if _MARK not in page:
        return
    own.adopt(_name(folder.report_html, folder.path))
    for path in folder.written():
        if path.stat().st_mtime <= made:
            own.adopt(_name(path, folder.path))


def render(study: Study, sections: list[Section]) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brats_jax.reporting", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["letter"] = letter
    return environment.get_template("page.html").render(
        title=printable(study.workdir.resolve().name),
        sections=sections,
        made=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        version=about.__version__,
        folder=ReportFolder(study.workdir).tables.name,
    )
