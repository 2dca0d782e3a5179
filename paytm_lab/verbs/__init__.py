"""What the commands do; ``cli`` only parses. One module a verb, or a few that belong together."""
