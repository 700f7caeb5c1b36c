"""Studies: the paper's figures and the comparison of editors as functions that return data and a figure."""
