#!/usr/bin/env bash
# Two database roles: mlflow_owner makes and changes tables (the migration), mlflow reads and writes rows (the server).
# PostgreSQL's image runs it once, when the database folder is new; passwords come from the environment.
set -euo pipefail
: "${OWNER_PASSWORD:?}" "${RUNTIME_PASSWORD:?}"

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv runtime_password RUNTIME_PASSWORD
CREATE ROLE mlflow_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE mlflow LOGIN PASSWORD :'runtime_password';
CREATE DATABASE mlflow OWNER mlflow_owner;
REVOKE ALL ON DATABASE mlflow, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE mlflow TO mlflow;
\connect mlflow
ALTER SCHEMA public OWNER TO mlflow_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO mlflow;
ALTER DEFAULT PRIVILEGES FOR ROLE mlflow_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mlflow;
ALTER DEFAULT PRIVILEGES FOR ROLE mlflow_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO mlflow;
SQL
