"""Bytes of model files from the network, resumed and checked."""
