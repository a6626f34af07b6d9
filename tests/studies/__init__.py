"""Studies whose figures stand in the documents; nothing here is shipped."""
