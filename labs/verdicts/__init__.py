"""The table of verdicts: whole runs, kept as measured facts in docs/verdicts.json and shown in the README."""
