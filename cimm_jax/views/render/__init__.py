"""Parts on a terminal, on a page, in Markdown and as pictures, one renderer each."""
