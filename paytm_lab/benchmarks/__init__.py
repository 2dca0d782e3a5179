"""One module per `paytm-lab bench NAME`: each has ``run(data_dir, quick)`` and returns its rows."""
