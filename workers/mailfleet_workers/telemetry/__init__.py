"""What a worker tells those who watch it: metrics, health, logs. Importing it loads no metrics library."""
