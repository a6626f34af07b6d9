"""Atomic writes and settings of the operating system's process."""
