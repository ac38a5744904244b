"""What operators run: intake, delivery, SMTP, limits, reconciler, embedded mode, settings, views, command line."""
