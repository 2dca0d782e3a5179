"""The ledger's own consumer: what the fraud side decided comes back as reviews and freezes."""
