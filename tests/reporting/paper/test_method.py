"""Contradictions in the paper's description of its method."""

from brats_jax.reporting.paper.method import ACCOUNTS, check_method


def test_each_finding_quotes_the_paper_and_names_the_choice_made_here():
    findings = list(check_method())
    assert len(findings) == len(ACCOUNTS)
    for finding, account in zip(findings, ACCOUNTS, strict=True):
        assert f"'{account.quote}' ({account.where})" in finding.sentence
        assert finding.sentence.endswith(f"Here: {account.here}.")
        assert finding.cells == () and finding.check == "method"
