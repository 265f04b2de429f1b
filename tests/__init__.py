"""Tests, benchmarks and what both need."""
