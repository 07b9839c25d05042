"""What PostgreSQL needs: its dialect, its statements, and asyncpg's connection."""
