"""The same network prepared for translating: packed weights, number formats, shortlists."""
