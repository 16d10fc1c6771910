"""All SQL of search: of its own database, and what it reads of the catalogue's."""
