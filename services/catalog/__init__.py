"""The product catalogue: the truth that search is built from."""
