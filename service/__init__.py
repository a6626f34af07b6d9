"""Online: the `dragoman` command and the HTTP service."""
