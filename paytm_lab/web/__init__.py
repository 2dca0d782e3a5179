"""What every service shares: the app factory, problems, tokens, metrics, tracing, logging."""
