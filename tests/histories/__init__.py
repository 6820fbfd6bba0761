"""Histories without a run: what the judge and the report are shown in tests."""
