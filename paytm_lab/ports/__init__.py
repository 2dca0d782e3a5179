"""What the lab asks of a store, a log, a cache and a coordinator: Protocols whose docstrings are promises."""
