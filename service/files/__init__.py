"""Translates text files; knows nothing of HTTP."""
