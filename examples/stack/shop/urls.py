"""The pages of the shop: some work, some are slow, some fail."""

import logging

from django.db import connection
from django.http import HttpResponse
from django.urls import path

from shop import tasks
from shop.models import Order

log = logging.getLogger("shop.orders")


def order(request):
    """Stores an order, and lets a task charge it."""
    made = Order.objects.create(item=request.GET.get("item", "tea"))
    tasks.charge.delay(made.id)
    log.info("order %d of %s", made.id, made.item)
    return HttpResponse(f"order {made.id}\n")


def slow(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.25)")
    return HttpResponse("at last\n")


def broken(request):
    """Fails with one exception that is the cause of another."""
    try:
        return HttpResponse(12 / int(request.GET.get("items", "0")))
    except ZeroDivisionError as error:
        raise ValueError("an order without items\nsecond line of the message") from error


def report(request):
    """Sends a statement of several lines that PostgreSQL refuses."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*),\n       sum(price)\n  FROM shop_order")
    return HttpResponse("never\n")


def refund(request):
    """Starts a task that fails, is tried again, and fails for good."""
    tasks.refund.delay(0)
    return HttpResponse("later\n", status=202)


urlpatterns = [
    path("order", order),
    path("slow", slow),
    path("broken", broken),
    path("report", report),
    path("refund", refund),
]
