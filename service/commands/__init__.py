"""Commands of `dragoman` that need no running service."""
