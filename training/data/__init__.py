"""Corpora: reading, cleaning, splitting, tokenizing, storing."""
