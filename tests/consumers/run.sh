#!/usr/bin/env bash
# run.sh CASE SOURCE BUILD: one way of using cumega from outside, tried on the tree installed below
# BUILD/consumers by the case `install`. Exit 77 skips, with the reason.
set -euo pipefail
name=$1 source=$2 build=$3
work=$build/consumers
prefix=$work/prefix
here=$work/$name
consumer=$source/tests/consumers/consumer.c
unset DESTDIR CMAKE_PREFIX_PATH PKG_CONFIG_PATH LD_LIBRARY_PATH

skip() { echo "skipped: $*"; exit 77; }
need() { command -v "$1" >/dev/null || skip "no $1 here"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# configure [-DNAME=VALUE...]: the project that finds cumega, in $prefix unless told otherwise.
configure() {
  cmake -S "$source/tests/consumers/found" -B "$here/build" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_FIND_PACKAGE_NO_PACKAGE_REGISTRY=ON "$@"
}
build_and_run() {
  cmake --build "$here/build" -j "$(nproc)"
  "$here/build/consumer"
}
# Configuring must fail with a given sentence (CMake wraps its lines).
must_not_configure() {
  local sentence=$1
  shift
  if configure "$@" >"$here/log" 2>&1; then fail "configured with $*"; fi
  tr -s ' \n' '  ' <"$here/log" | grep -F -- "$sentence" >/dev/null ||
    { cat "$here/log"; fail "no sentence '$sentence'"; }
}
# make_and_run FILE [VARIABLE=VALUE...]: the Makefile's project, built from that file alone.
make_and_run() {
  need make
  cp "$source/tests/consumers/makefile/Makefile" "$here"
  cp "$1" "$here/program.c" # make does not support names with spaces
  shift
  PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name cumega.pc)") make -C "$here" "$@"
  LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name libcumega.so.0)") "$here/program"
}
has_cuda() { [ -n "$(find "$prefix" -name 'libcumega_cuda.so*')" ]; }
has_archive() { [ -n "$(find "$prefix" -name libcumega.a)" ]; }
# An installed program finds its library and verifies its data.
verify_below() {
  local program data
  program=$(find "$1" -path '*/bin/cumega')
  mapfile -t data < <(find "$1" -path '*/share/cumega/*.safetensors')
  "$program" verify "${data[@]}"
}
pack() {
  need cpack
  cpack --config "$build/CPackConfig.cmake" -G "$1" -B "$here/packages"
}

case_install() {
  rm -rf "$prefix"
  cmake --install "$build" --prefix "$prefix"
  verify_below "$prefix"
}
case_cmake_cpu() {
  configure -DCOMPONENTS=cpu
  build_and_run
}
case_cmake_archive() {
  has_archive || skip "built without CUMEGA_STATIC"
  configure -DLIBRARY=cumega::cumega_static
  build_and_run
  if readelf -d "$here/build/consumer" | grep libcumega; then
    fail "the shared library was linked"
  fi
}
case_cmake_cxx17() {
  need "${CXX:-c++}"
  configure -DCONSUMER_LANGUAGE=CXX
  build_and_run
}
case_cmake_cuda_required() {
  if has_cuda; then
    configure "-DCOMPONENTS=cpu;cuda"
    build_and_run
  else
    must_not_configure "has no CUDA backend" "-DCOMPONENTS=cpu;cuda"
  fi
}
case_cmake_cuda_optional() {
  local found=FALSE
  if has_cuda; then found=TRUE; fi
  configure -DCOMPONENTS=cpu -DOPTIONAL_COMPONENTS=cuda | grep -F "cpu 'TRUE' cuda '$found'"
  build_and_run
}
case_cmake_unknown_component() {
  must_not_configure "there is none of that name" -DCOMPONENTS=tpu
}
case_cmake_build_tree() {
  configure -Dcumega_DIR="$build/cmake"
  build_and_run
}
case_add_subdirectory() {
  cmake -S "$source/tests/consumers/subproject" -B "$here/build" -DCUMEGA_SOURCE="$source" \
    -DBUILD_SHARED_LIBS=ON -DCMAKE_BUILD_TYPE=Debug
  build_and_run
}
case_fetch_content() {
  cmake -S "$source/tests/consumers/subproject" -B "$here/build" -DCUMEGA_SOURCE="$source" \
    -DFETCH=ON -DCMAKE_BUILD_TYPE=Debug
  build_and_run
}
case_pkg_config() { make_and_run "$consumer"; }
case_pkg_config_static() {
  has_archive || skip "built without CUMEGA_STATIC"
  make_and_run "$consumer" STATIC=1
}
case_moved_prefix() {
  local first=$prefix
  cp -a "$first" "$here/moved"
  cp -a "$first" "$here/moved tree"
  prefix="$here/moved tree"
  verify_below "$prefix"
  configure -DCOMPONENTS=cpu
  build_and_run
  prefix=$here/moved
  make_and_run "$consumer"
  if grep -rIl -- "$first" "$prefix"; then fail "these files name the first prefix"; fi
}
case_tgz() {
  pack TGZ
  mkdir "$here/root"
  tar -xzf "$here"/packages/*.tar.gz -C "$here/root" --strip-components=1
  verify_below "$here/root"
}
case_deb() {
  need dpkg-deb
  need dpkg-shlibdeps
  need file
  [ -n "$(find "$prefix" -name libcumega.so.0)" ] || skip "the packages are of the shared library"
  pack DEB
  local deb root=$here/root
  mkdir "$root"
  for deb in "$here"/packages/*.deb; do
    dpkg-deb -I "$deb" | grep -E '^ (Package|Version|Depends)'
    dpkg-deb -x "$deb" "$root"
  done
  dpkg-deb -f "$here"/packages/cumega_*.deb Depends | grep -E 'libcumega0' >/dev/null ||
    fail "the program does not depend on its library"
  dpkg-deb -f "$here"/packages/libcumega0_*.deb Depends | grep -E 'libjansson4' >/dev/null ||
    fail "the library does not depend on jansson"
  verify_below "$root"
  prefix=$root
  make_and_run "$consumer"
}
case_readme() {
  awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$source/README.md" \
    >"$here/readme.c"
  grep -q 'int main' "$here/readme.c" || fail "README.md has no C program"
  make_and_run "$here/readme.c"

  # The commands that check the promises name tests that exist.
  local name
  local promises=docs/promises.md
  grep -oE 'ctest --test-dir build -R [a-z_]+' "$source/$promises" | sed 's/.* //' >"$here/names"
  [ -s "$here/names" ] || fail "$promises names no test"
  while read -r name; do
    if ctest --test-dir "$build" -N -R "$name" | grep -q 'Total Tests: 0'; then
      fail "$promises names a test $name, which does not exist"
    fi
  done <"$here/names"
}

declare -F "case_$name" >/dev/null || fail "no case $name"
rm -rf "$here"
mkdir -p "$here"
"case_$name"
