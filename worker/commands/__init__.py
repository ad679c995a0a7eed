"""The commands an owner types, one module for each; `program` puts them together."""
