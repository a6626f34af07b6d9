"""What is known of a text: language, markup, words, quality; knows nothing of HTTP."""
