"""Programs of this package as source text for machines that run no Python."""
