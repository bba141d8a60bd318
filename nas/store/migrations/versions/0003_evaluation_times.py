"""Evaluations hold when they were made and how many seconds each part took; those made before have neither."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("evaluations", sa.Column("made", sa.DateTime(timezone=True), nullable=True))
    op.add_column("evaluations", sa.Column("seconds", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("evaluations", "seconds")
    op.drop_column("evaluations", "made")
