"""Tables of the report, a module for each kind, and their form as CSV, Markdown and LaTeX."""
