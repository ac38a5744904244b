"""Whether a mail may be stored: every field, size and address, once, before a row is written.

`validate` answers for one `Mail`; `InvalidMail` names the field and the reason. What a row says later (a renderer's
output, a row written by another language) is checked again when the message is built.
"""

from mailfleet.validation.limits import DEFAULT_LIMITS, Limits
from mailfleet.validation.mail import Checked, validate

__all__ = ["DEFAULT_LIMITS", "Checked", "Limits", "validate"]
