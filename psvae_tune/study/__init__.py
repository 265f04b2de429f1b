"""A whole study is planned, priced, run and resumed here."""
