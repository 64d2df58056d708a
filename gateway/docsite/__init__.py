"""The documentation as pages: Markdown of the repository, rendered once, with search."""
