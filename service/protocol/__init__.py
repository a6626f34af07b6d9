"""Reads requests and writes error responses, in the words of each API."""
