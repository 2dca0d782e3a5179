"""Every port on the real servers; drivers and their errors end here."""
