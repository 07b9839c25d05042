"""The settings of the project."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "for-development-only")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "django_shop.urls"
INSTALLED_APPS = ["django_shop"]
MIDDLEWARE = ["django_shop.messages.AnswerBrokerErrors"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", "shop.sqlite3"),
        # SQLite's own matter: a transaction that writes waits for its turn at its start.
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
BROKER_URL = os.environ.get("BROKER_URL", "amqp://guest:guest@localhost/")
