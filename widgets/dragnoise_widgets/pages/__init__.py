"""The pages of the inspector: a figure each of an iteration."""
