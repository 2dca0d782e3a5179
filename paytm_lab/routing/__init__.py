"""User -> slot -> shard: stable hashes, strategies to compare, and the map the system runs on."""
