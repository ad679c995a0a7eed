"""Models: which there are (`catalog`), where they lie (`disk`), how they come (`download`, `loras`).

See docs/models.md.
"""
