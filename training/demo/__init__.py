"""The grammar of the demo corpus: words, phrases, and one function for each kind of sentence."""
