# Makes or updates .venv/ in the project's root; sourced by the other scripts, which then call $venv/bin/...
#
#   PYTHON=python3.12 bash scripts/test.sh     takes another Python than python3 for a new .venv

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
cd "$root"

make_venv() {
  local extra=$1 python=${PYTHON:-python3} wanted
  if ! command -v "$python" >/dev/null; then
    echo "error: $python is not on the PATH; install Python 3.11 or newer with venv and pip" >&2
    exit 1
  fi
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $("$python" --version) is too old; mixscale needs Python 3.11 or newer (set PYTHON=...)" >&2
    exit 1
  fi
  wanted=$(cat requirements.txt pyproject.toml | cksum)
  if [ "$(cat "$venv/.installed-$extra" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if [ ! -x "$venv/bin/python" ]; then
    echo "making .venv with $("$python" --version)"
    # A half-made environment would be taken for a whole one the next time.
    "$python" -m venv "$venv" || { rm -rf "$venv"; exit 1; }
  fi
  echo "installing mixscale and what it needs into .venv (a minute or two, once)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extra"
  echo "$wanted" > "$venv/.installed-$extra"
}
