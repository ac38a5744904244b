"""mailfleet in a Django project: mails are written on Django's own connection, in the transaction that is open there.

```python
from django.db import transaction
from mailfleet import Mail
from mailfleet.django import emit

with transaction.atomic():
    order = Order.objects.create(customer=customer)
    emit(Mail(to=customer, subject=f"Your order {order.pk}", text=text, idempotency_key=f"order-{order.pk}"))
```
A rollback, also of a savepoint, leaves neither row nor hint; the hint goes out after the outermost commit. Outside of `atomic()`
the mail is committed at once; with autocommit turned off it goes with the application's own commit, and workers find it without a
hint. mailfleet's tables have to be in that database (`mailfleet db upgrade`). Code that uses `django.core.mail` goes on as it is
with `EMAIL_BACKEND = "mailfleet.django.EmailBackend"`.

| setting of Django's | meaning |
|---|---|
| `MAILFLEET_APP` | the app whose mails these are; required |
| `MAILFLEET_DATABASE` | the alias of the database with mailfleet's tables; `default` |

Everything else is where every mailer finds it (`mailfleet.settings`). Other verbs are `mailer().send(…)`, and
`mailer().save(mail, session=session())` into the open transaction. PostgreSQL and SQLite; blocking, so asynchronous views wrap it in
`sync_to_async` as they do their models.
"""

from mailfleet.django.backend import EmailBackend
from mailfleet.django.doors import emit, mailer
from mailfleet.django.session import DjangoSession, session

__all__ = ["DjangoSession", "EmailBackend", "emit", "mailer", "session"]
