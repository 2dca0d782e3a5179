"""Money, ids, clock, event records, errors and decision types. No input or output happens here."""
