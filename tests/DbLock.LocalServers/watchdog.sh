# Owns one folder and the server that runs in it. On its input: "start", "stop SIGNAL"; to each it answers with a line.
# When the input ends, the process that asked is done, or dead: the server is stopped, the folder deleted.
# Arguments: the folder, the server's user id (empty: our own), the signal that stops the server, the server's command.
folder=$1 user=$2 signal=$3
shift 3

trap '' HUP INT TERM PIPE
cd /
[ -d "$folder" ] || mkdir -m 700 "$folder" || exit 1
echo $$ >"$folder/watchdog.pid.new"
mv "$folder/watchdog.pid.new" "$folder/watchdog.pid"
[ -z "$user" ] || chown "$user:$user" "$folder"
exec 2>/dev/null
server=

start() {
  (
    trap - HUP INT TERM PIPE
    cd "$folder"
    exec "$@"
  ) </dev/null >>"$folder/server.log" 2>&1 &
  server=$!
}

running() {
  case $(cat "/proc/$server/stat") in '' | *') Z '*) return 1 ;; esac
}

# The server is our child: until the `wait` its number cannot become another process's.
stop() {
  [ "$server" ] || return 0
  kill -s "$1" "$server"
  tries=200
  while running && [ $tries -gt 0 ]; do
    sleep 0.05
    tries=$((tries - 1))
  done
  kill -s KILL "$server"
  wait "$server"
  server=
}

# Whatever else runs in the folder: an initdb whose caller died, the server of a watchdog that was killed.
others() {
  ls -l /proc/[0-9]*/cwd | while read -r line; do
    case "$line/" in
    *" -> $folder"/*)
      process=${line%%/cwd -> *}
      echo "${process##*/}"
      ;;
    esac
  done
}

# PostgreSQL gives its shared memory back only when it ends by itself (an initdb does, soon) or by SIGQUIT.
end_others() {
  tries=0
  while left=$(others) && [ "$left" ] && [ $tries -lt 200 ]; do
    case $tries in
    40) kill -s QUIT $left ;;
    80 | 120 | 160) kill -s KILL $left ;;
    esac
    sleep 0.05
    tries=$((tries + 1))
  done
}

echo ready
while read -r verb word; do
  case $verb in
  start) start "$@" && echo "started $server" ;;
  stop) stop "$word" && echo stopped ;;
  esac
done

stop "$signal"
end_others
rm -rf "$folder"
