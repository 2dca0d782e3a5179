"""Every port on SQLite files and in-process parts, under one data folder."""
