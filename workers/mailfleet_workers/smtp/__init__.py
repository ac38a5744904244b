"""SMTP over smtplib's primitives: connections, their pool, and one transaction whose phase is always known."""
