#!/usr/bin/env bash
# Run by PostgreSQL's image when it makes a new database: a role that is no superuser, and a database of its own.
set -euo pipefail

# psql quotes the password itself, so it may hold any character, and it is on no command line.
psql --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\set password `cat /run/secrets/mailfleet_password`
CREATE ROLE mailfleet LOGIN PASSWORD :'password';
CREATE DATABASE mailfleet OWNER mailfleet;
SQL
