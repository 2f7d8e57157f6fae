"""One table or figure of the paper a file, beside its published numbers."""
