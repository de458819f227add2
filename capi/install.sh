#!/bin/sh
# Installs libappxmpp as it was built (`make install` builds it first), or removes it again with --uninstall.
#   PREFIX   where it will be used (default /usr/local)
#   DESTDIR  a folder in front of that, for packages
#   LIBDIR   folder of libraries (default PREFIX/lib)
#   BUILT    folder with libappxmpp.so and libappxmpp.a (default target/release)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
built=${BUILT:-${CARGO_TARGET_DIR:-$here/../target}/release}
to=${DESTDIR:-}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -n 1)
major=${version%%.*}
minor=${version#*.} minor=${minor%%.*}
# Before 1.0 each minor version is an interface of its own (capi/build.rs says the same to the linker).
if [ "$major" = 0 ]; then abi=0.$minor; else abi=$major; fi

# What only a static library needs beside it: `rustc --print native-static-libs`, compared by the tests.
static_libs="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"

# From the one to the other, for who moves both.
include_from_libdir=$(realpath -ms --relative-to="$libdir" "$prefix/include")

fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@VERSION@|$version|g" -e "s|@ABI@|$abi|g" \
        -e "s|@STATIC_LIBS@|$static_libs|g" -e "s|@INCLUDE_FROM_LIBDIR@|$include_from_libdir|g" "$1"
}

# The archive with one object in it, whose other names are its own: the program may have an SQLite too. The standard
# library's LLVM code would not survive being put together, and nobody needs it.
archive() {
    work=$(mktemp -d)
    ${OBJCOPY:-objcopy} -R .llvmbc -R .llvmcmd "$built/libappxmpp.a" "$work/all.a"
    ${LD:-ld} -r --whole-archive "$work/all.a" -o "$work/libappxmpp.o"
    ${OBJCOPY:-objcopy} --keep-global-symbols="$here/symbols.txt" "$work/libappxmpp.o"
    rm -f "$1"
    ${AR:-ar} rcsD "$1" "$work/libappxmpp.o"
    chmod 644 "$1"
    rm -r "$work"
}

files() {
    echo "$libdir/libappxmpp.so.$version"
    echo "$libdir/libappxmpp.so.$abi"
    echo "$libdir/libappxmpp.so"
    echo "$libdir/libappxmpp.a"
    echo "$prefix/include/appxmpp.h"
    echo "$libdir/pkgconfig/appxmpp.pc"
    echo "$libdir/cmake/appxmpp/appxmppConfig.cmake"
    echo "$libdir/cmake/appxmpp/appxmppConfigVersion.cmake"
    for page in "$here"/man/*.3; do echo "$prefix/share/man/man3/${page##*/}"; done
}

if [ "${1:-}" = --uninstall ]; then
    files | while read -r file; do rm -f "$to$file"; done
    rmdir "$to$libdir/cmake/appxmpp" 2>/dev/null || true
    exit 0
fi

for library in so a; do
    if [ ! -f "$built/libappxmpp.$library" ]; then
        echo "install.sh: $built/libappxmpp.$library is not there; run: cargo build --release -p appxmpp-capi" >&2
        exit 1
    fi
done

install -d "$to$libdir/pkgconfig" "$to$libdir/cmake/appxmpp" "$to$prefix/include" "$to$prefix/share/man/man3"
install -m 755 "$built/libappxmpp.so" "$to$libdir/libappxmpp.so.$version"
${STRIP:-strip} --strip-unneeded "$to$libdir/libappxmpp.so.$version"
ln -sf "libappxmpp.so.$version" "$to$libdir/libappxmpp.so.$abi"
ln -sf "libappxmpp.so.$abi" "$to$libdir/libappxmpp.so"
archive "$to$libdir/libappxmpp.a"
install -m 644 "$here/include/appxmpp.h" "$to$prefix/include/appxmpp.h"
fill "$here/appxmpp.pc.in" > "$to$libdir/pkgconfig/appxmpp.pc"
for file in appxmppConfig appxmppConfigVersion; do
    fill "$here/cmake/$file.cmake.in" > "$to$libdir/cmake/appxmpp/$file.cmake"
done
for page in "$here"/man/*.3; do
    fill "$page" > "$to$prefix/share/man/man3/${page##*/}"
done
echo "installed libappxmpp $version (libappxmpp.so.$abi) in $to$prefix"
