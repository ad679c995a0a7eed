"""A Horde and models of our own: the embedded default, and the double that tests use."""
