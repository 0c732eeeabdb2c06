#!/usr/bin/env python3
"""Logs to the file that is named, with an exception in between: as Django does."""

import logging
import sys

logging.basicConfig(filename=sys.argv[1], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logging.getLogger().handlers[0].terminator = "\n-- end --\n"  # syslog-ng does not have to wait for the next entry
log = logging.getLogger("shop.orders")


def price(order):
    return order["total"] / order["items"]


def handle(order):
    try:
        return price(order)
    except ZeroDivisionError as error:
        raise ValueError("order without items\nsecond line of the message") from error


log.info("started")
try:
    handle({"total": 12, "items": 0})
except ValueError:
    log.exception("Internal Server Error: /orders")
log.info("goes on")
