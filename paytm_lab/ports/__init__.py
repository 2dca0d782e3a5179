"""What the lab asks of a store, a log, a cache, a coordinator: Protocols with written promises."""
