"""The ports, kept by real parts. Only wiring and the contract tests import from here."""
