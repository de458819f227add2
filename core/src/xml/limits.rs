/// How much one stanza may hold. What is over a limit is refused before memory is spent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest stanza, in bytes. Default 512 KiB, Prosody's own bound for components.
    pub stanza_bytes: usize,
    /// The deepest nesting; the stanza itself is at depth 1. Default 128.
    pub depth: usize,
    /// The most attributes of one element, namespace declarations included. Default 128.
    pub attributes: usize,
    /// The longest element or attribute name, prefix included, in bytes. Default 1024.
    pub name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stanza_bytes: 512 * 1024, depth: 128, attributes: 128, name_bytes: 1024 }
    }
}
