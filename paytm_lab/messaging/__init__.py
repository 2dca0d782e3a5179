"""From the outbox to the log, and from the log to those who act on it."""
