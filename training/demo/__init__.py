"""The demo: a packed corpus, and the command that trains a translator on it."""
