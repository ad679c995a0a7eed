"""The commands an owner types, one module for each; `worker.cli` puts them together."""
