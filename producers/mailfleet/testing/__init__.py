"""For applications' own tests: a mailer that sends nothing and remembers what it would have sent.

```python
mailer = RecordingMailer("billing")
close_account(mailer, ada)
mailer.assert_sent(to="ada@example.net", subject="Your account is closed")
```
It checks every mail as the real one does, and needs no database. With a session it counts a mail as sent when that
session commits, and forgets it on a rollback.
"""

from mailfleet.testing.recorded import Recorded
from mailfleet.testing.recording import RecordingMailer

__all__ = ["Recorded", "RecordingMailer"]
