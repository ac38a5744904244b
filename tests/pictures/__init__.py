"""The pictures of `docs/management-ui.md`: a small fleet at work, and the management UI as a browser shows it."""
