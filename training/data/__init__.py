"""Reads, cleans, splits, tokenizes and stores corpora."""
