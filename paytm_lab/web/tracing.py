"""W3C trace context: what came with a request goes on with everything that it causes."""

from __future__ import annotations

import secrets
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"
current: ContextVar[str] = ContextVar("traceparent", default="")
_propagator = TraceContextTextMapPropagator()


def continued(header: str | None) -> str:
    """The ``traceparent`` of what a request does: the caller's trace with a span of ours, or a new
    trace where the caller sent none, or none that is one.
    """
    trace_id, flags = secrets.token_hex(16), "01"
    if header:
        found = trace.get_current_span(_propagator.extract({HEADER: header})).get_span_context()
        if found.is_valid:
            trace_id, flags = f"{found.trace_id:032x}", f"{found.trace_flags:02x}"
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def trace_id_of(traceparent: str) -> str:
    """The 32 hex digits by which logs and events of one request find each other; '' for none."""
    return traceparent[3:35]
