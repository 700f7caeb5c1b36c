"""The inspector's pages, one figure each."""
