from database import connect

with connect() as connection:
    connection.execute("ALTER TABLE notes ADD COLUMN IF NOT EXISTS tag text NOT NULL DEFAULT 'untagged'")
