"""The commands, one module for each subject; `worker.cli` puts them together."""
