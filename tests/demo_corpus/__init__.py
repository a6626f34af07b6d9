"""The grammar behind the demo corpus; training/demo/corpus.tsv.bz2 is its packed output."""
