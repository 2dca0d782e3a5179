"""Notifications: who is told what, by which channel, at most once but for one counted exception."""
