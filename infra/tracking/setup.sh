#!/usr/bin/env bash
# Makes a folder for the tracking server's data and secrets: `bash infra/tracking/setup.sh ~/setr-tracking`.
# Run again it changes nothing that is there. The folder is outside the project: nothing in it can be uploaded with it.
set -euo pipefail
umask 077

folder=${1:?name the folder, such as ~/setr-tracking}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
case "$folder/" in
"$project"/*)
    echo "error: $folder is inside the project; secrets there would travel with every submitted job" >&2
    exit 2
    ;;
esac

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
write() { # write FILE: standard input becomes FILE unless it exists
    if [[ -e $folder/$1 ]]; then cat >/dev/null; else cat >"$folder/$1"; fi
}

owner=$(random) runtime=$(random) key=$(random) secret=$(random)
# One file for each process: the server never sees the owner's password.
if [[ ! -e $folder/database.env ]]; then
    write database.env <<<"POSTGRES_PASSWORD=$(random)
OWNER_PASSWORD=$owner
RUNTIME_PASSWORD=$runtime"
    write initialise.env <<<"PGPASSWORD=$owner
AWS_ACCESS_KEY_ID=$key
AWS_SECRET_ACCESS_KEY=$secret"
    write server.env <<<"PGPASSWORD=$runtime
AWS_ACCESS_KEY_ID=$key
AWS_SECRET_ACCESS_KEY=$secret"
    write object-store.env <<<"ROOT_ACCESS_KEY_ID=$key
ROOT_SECRET_ACCESS_KEY=$secret"
fi

mkdir -p "$folder/database" "$folder/objects"
user=$(id -u) group=$(id -g)
if ((user == 0)); then # no container runs as root
    user=1000 group=1000
    chown "$user:$group" "$folder/database" "$folder/objects"
fi
write compose.env <<<"SETR_TRACKING=$folder
SETR_USER=$user:$group"
echo "docker compose --env-file $folder/compose.env -f $project/infra/tracking/compose.yaml up --detach"
