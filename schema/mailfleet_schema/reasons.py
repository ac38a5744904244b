"""How the reason of a mail that failed begins, where somebody else than a person goes by it.

`mail.reason` is a text for people. Its first word is a kind: `wait(host)`, `retry`, and these.
"""

#: Refused for good.
STOP = "stop"
#: A condition of the mail does not hold in this installation: run mode, apps.
CONDITION = "condition"
#: Its renderer failed for good, or is not there.
RENDER = "render"
#: The whole reason of a mail that a hook of its application stopped.
HOOK = f"{STOP}: hook"
