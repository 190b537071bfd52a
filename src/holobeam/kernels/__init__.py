"""Compiled kernels: arrays in, arrays out, nothing of the house. Imported on first use."""
