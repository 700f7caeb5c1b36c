"""Reports of a run: tables, figures and comparisons of two runs."""
