"""Beam search over many sentences at once, and the engines that run it."""
