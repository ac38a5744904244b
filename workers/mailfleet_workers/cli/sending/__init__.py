"""What `mailfleet send` is made of: mails from arguments, from an .eml file or from a table and a template; then their fate."""
