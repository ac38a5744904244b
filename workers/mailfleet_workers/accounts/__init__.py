"""Accounts as one worker process knows them: from settings, applications' loaders and the database, followed while it runs."""
