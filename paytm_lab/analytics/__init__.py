"""Analytics: every payment and fraud event kept by its key and by hour, and totals that equal the
ledger's.
"""
