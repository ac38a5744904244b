"""Mail without a database, to real servers."""
