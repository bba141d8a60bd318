"""Jobs and results in SQL: SQLite or PostgreSQL."""
