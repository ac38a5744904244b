"""What operators do to a running fleet: close and open gates, change limits. For the command line and for REST.

Each function is given what it needs, does it in transactions of its own, and returns frozen values. Nothing here prints.
"""
