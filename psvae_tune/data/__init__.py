"""Recordings are imported, read, checked, split and scaled here."""
