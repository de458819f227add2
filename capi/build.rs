//! How the shared library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let part = |name: &str| std::env::var(name).unwrap_or_default();
    let (major, minor) = (part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR"));
    if part("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    // Before 1.0 each minor version is an interface of its own.
    let abi = if major == "0" { format!("0.{minor}") } else { major };
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libappxmpp.so.{abi}");
    // Threads of the runtime and fork handlers may run at any time: the code must stay.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
