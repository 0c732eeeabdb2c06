"""Celery: the tasks of the shop, with the id of the request that started them."""

import logging
import os

import django
from celery import Celery, signals
from celery.utils.log import get_task_logger

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402

from shop.log import JSONFormatter, request_id, sql_comment  # noqa: E402
from shop.models import Order  # noqa: E402

app = Celery("shop", broker=settings.CELERY_BROKER)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,  # the task of a worker that is killed runs again
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
    worker_redirect_stdouts=False,
    beat_schedule={"count": {"task": "shop.tasks.count", "schedule": 5.0}},
)
log = get_task_logger(__name__)

# "received" is logged before the task has its id, and says nothing that
# "succeeded", "retry" or "raised unexpected" does not say.
logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def log_as_json(logger=None, **_):
    for handler in logger.handlers:
        handler.setFormatter(JSONFormatter())


@signals.before_task_publish.connect
def send_id(headers=None, **_):
    headers["request_id"] = request_id.get()


@signals.task_prerun.connect
def take_id(task=None, **_):
    request_id.set(task.request.get("request_id") or "-")
    if sql_comment not in connection.execute_wrappers:
        connection.execute_wrappers.append(sql_comment)


@app.task
def charge(order):
    Order.objects.filter(id=order).update(charged=True)
    log.info("order %d is charged", order)


@app.task(bind=True, max_retries=2)
def refund(self, amount):
    try:
        return 100 / amount
    except ZeroDivisionError as error:
        raise self.retry(exc=error, countdown=1)


@app.task
def count():
    log.info("%d orders", Order.objects.count())
