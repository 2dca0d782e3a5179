"""What a choice of shard key costs, on paper: strategies, hot keys, locality, growth."""
