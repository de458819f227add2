//! Lines on standard output, for whoever is still there to read them.

use std::io::Write as _;

/// Writes a line. A reader that has left (`appxmpp example | head -1`) is no error.
pub(crate) fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes text as it is.
pub(crate) fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
