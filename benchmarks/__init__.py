"""Benchmarks: what holobeam must show, measured side by side in one run on one machine."""
