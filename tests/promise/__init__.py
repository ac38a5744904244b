"""The promise as a table: what is struck when, what was found, and the page that shows it. No tests in here."""
