"""Django's settings; only what a shop without pages, users and sessions needs."""

import os

from shop import log

log.add_request_id()

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "set SHOP_SECRET_KEY")
ALLOWED_HOSTS = ["*"]  # nginx passes on only its own
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
MIDDLEWARE = ["shop.log.middleware"]
INSTALLED_APPS = ["shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"  # of Celery's log, too
USE_TZ = True

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("SHOP_DB_HOST", "/var/run/postgresql"),
        "NAME": "shop",
        "USER": os.environ.get("SHOP_DB_USER", "shop"),
        "CONN_MAX_AGE": 60,
    }
}
CELERY_BROKER = os.environ.get("SHOP_BROKER", "redis://127.0.0.1:6379/0")

# WatchedFileHandler opens the file again after logrotate has renamed it.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "shop.log.JSONFormatter"}},
    "handlers": {
        "file": {
            "class": "logging.handlers.WatchedFileHandler",
            "filename": os.environ.get("SHOP_LOG", "/var/log/shop/django.json"),
            "delay": True,
            "formatter": "json",
        }
    },
    "loggers": {
        "django": {"handlers": ["file"], "level": "INFO", "propagate": False},
        "shop": {"handlers": ["file"], "level": "INFO", "propagate": False},
    },
}
