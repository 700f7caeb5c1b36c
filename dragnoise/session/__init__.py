"""The stepwise session: its state, history, branches, and the verbs that take it further."""
