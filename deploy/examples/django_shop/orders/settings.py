"""The shop's settings.

EXAMPLE_DATABASE_URL_FILE is a file with the URL of the shop's database, which mailfleet's tables are in as well;
EXAMPLE_SECRET_KEY is Django's; MAILFLEET_... are mailfleet's own settings.
"""

import os
from pathlib import Path

from sqlalchemy import make_url

_url = make_url(Path(os.environ["EXAMPLE_DATABASE_URL_FILE"]).read_text(encoding="utf-8").strip())

SECRET_KEY = os.environ["EXAMPLE_SECRET_KEY"]
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["orders"]
ROOT_URLCONF = "orders.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.database,
        "USER": _url.username,
        "PASSWORD": _url.password,
        "HOST": _url.host,
        "PORT": _url.port,
        "OPTIONS": dict(_url.query),
    }
}

# Whose mails these are; and what already uses django.core.mail goes on as it is.
MAILFLEET_APP = "shop"
EMAIL_BACKEND = "mailfleet.django.EmailBackend"
DEFAULT_FROM_EMAIL = "Shop <orders@shop.example>"
