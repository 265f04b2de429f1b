"""A study is kept and logged here: its folder, its journal, its MLflow runs, the outbox."""
