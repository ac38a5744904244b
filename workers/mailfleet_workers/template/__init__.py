"""Filling in templates in processes of their own, bounded in time and memory. Light: the process imports little else."""
