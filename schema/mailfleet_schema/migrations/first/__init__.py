"""The first tables, in the SQL of each dialect."""
