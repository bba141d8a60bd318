"""Profiles hold the operators of their network with their times; those made before have none."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("profiles", sa.Column("operators", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("profiles", "operators")
