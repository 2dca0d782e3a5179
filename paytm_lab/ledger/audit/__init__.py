"""The audit of the ledger: ``audit(databases, event_log, mode=...)`` -> a report of named checks.

run (the story) -> facts (SQL on one shard) -> shard_checks, cross_checks, events -> report
"""

from paytm_lab.ledger.audit.report import EXIT_CODES, AuditReport, Check
from paytm_lab.ledger.audit.run import audit

__all__ = ["EXIT_CODES", "AuditReport", "Check", "audit"]
