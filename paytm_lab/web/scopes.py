"""What a caller may do: the words in a token's ``scope``."""

from __future__ import annotations

TRANSFER_OWN = "transfer:own"
TRANSFER_ANY = "transfer:any"
ACCOUNT_CREATE = "account:create"
REVIEW = "review"
ANALYTICS_READ = "analytics:read"
ADMIN = "admin"
ALL = (TRANSFER_OWN, TRANSFER_ANY, ACCOUNT_CREATE, REVIEW, ANALYTICS_READ, ADMIN)
EVERYBODY = (TRANSFER_OWN,)
