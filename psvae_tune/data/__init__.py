"""Recordings: reading, checking, splitting and scaling them, and a generated one."""
