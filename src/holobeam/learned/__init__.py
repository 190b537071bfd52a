"""Learned beamformers: the same problem in, the same solution out."""
