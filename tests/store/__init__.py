"""The store room: the vault, files and keys, owners, SQLite, migrations, and the contract that every store keeps."""
