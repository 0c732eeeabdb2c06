"""Logging of the shop: which request is served, and an entry as a JSON object."""

import contextvars
import json
import logging
import time
from datetime import datetime, timezone

request_id = contextvars.ContextVar("request_id", default="-")
log = logging.getLogger("shop.request")


def add_request_id():
    """Makes every record of every logger carry the id of the request."""
    make = logging.getLogRecordFactory()

    def record(*args, **kwargs):
        made = make(*args, **kwargs)
        made.request_id = request_id.get()
        return made

    logging.setLogRecordFactory(record)


class JSONFormatter(logging.Formatter):
    """An entry is one line, its traceback included: JSON escapes newlines."""

    def format(self, record):
        entry = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "request_id": record.request_id,
            "message": record.getMessage(),
        }
        for name in ("method", "path", "status", "duration_ms"):
            if hasattr(record, name):
                entry[name] = getattr(record, name)
        task = getattr(record, "data", None)  # of Celery
        if isinstance(task, dict):
            entry["task_id"] = task.get("id")
            if "runtime" in task:
                entry["duration_ms"] = round(task["runtime"] * 1000)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def sql_comment(execute, sql, params, many, context):
    """PostgreSQL logs the statement, and the id with it."""
    return execute(f"/* request_id={request_id.get()} */ {sql}", params, many, context)


def middleware(get_response):
    """Takes the id that nginx has made, and logs how the request ended."""
    from django.db import connection

    def serve(request):
        start = time.monotonic()
        token = request_id.set(request.META.get("REQUEST_ID", "-"))
        try:
            with connection.execute_wrapper(sql_comment):
                response = get_response(request)
            extra = {
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "duration_ms": round((time.monotonic() - start) * 1000),
            }
            log.info("%s %s: %d", request.method, request.path, response.status_code, extra=extra)
            return response
        finally:
            request_id.reset(token)

    return serve
