"""The branches of a studio: the sessions, and the panel that lists them."""
