"""A study is written here: to its folder, its journal and MLflow."""
