# What compose.yaml relies on in the image `postgres`: a user, his password from a file, and a database of his name.
data=/var/lib/postgresql/data/pg
as_postgres() { setpriv --reuid postgres --clear-groups "$@"; }
mkdir -p "$data"
chown postgres "$data"
if [ ! -e "$data/PG_VERSION" ]; then
  cp "$POSTGRES_PASSWORD_FILE" /tmp/password
  chown postgres /tmp/password
  as_postgres initdb -D "$data" -E UTF8 -U "$POSTGRES_USER" --pwfile /tmp/password -A scram-sha-256
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_USER\"" | as_postgres postgres --single -D "$data" postgres
fi
exec setpriv --reuid postgres --clear-groups postgres -D "$data" -h '*' -k /tmp
