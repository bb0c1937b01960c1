"""The report of a run, a grid, or a folder of runs: from files on disk to one page and its tables.

`discover` reads the files, `arms` puts what was measured in order, the modules in the middle
make tables, figures and sentences of it, and `page` writes them.
"""
