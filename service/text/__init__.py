"""Facts about a text: its language, markup, words and quality. Knows nothing of HTTP."""
