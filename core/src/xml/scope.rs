use std::sync::{Arc, LazyLock};

use crate::ns;

// Asked for with every stanza.
static COMPONENT: LazyLock<Scope> = LazyLock::new(|| Scope::of_stream(ns::COMPONENT));
static CLIENT: LazyLock<Scope> = LazyLock::new(|| Scope::of_stream(ns::CLIENT));

/// The namespace bindings in force where an element stands: those of the stream header, usually.
/// Cloning one is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    bindings: Arc<[(Box<str>, Arc<str>)]>,
}

impl Scope {
    /// No bindings: elements without a prefix and without `xmlns` are in no namespace.
    pub fn empty() -> Self {
        Self { bindings: Arc::new([]) }
    }

    /// Elements without a prefix are in the namespace `ns`.
    pub fn default_ns(ns: &str) -> Self {
        Self::new([("", ns)])
    }

    /// The bindings of a stream header as this side writes it: the default namespace `ns`, and
    /// `stream` for the streams namespace.
    pub fn stream(ns: &str) -> Self {
        match ns {
            ns::COMPONENT => COMPONENT.clone(),
            ns::CLIENT => CLIENT.clone(),
            other => Self::of_stream(other),
        }
    }

    fn of_stream(ns: &str) -> Self {
        Self::new([("", ns), ("stream", ns::STREAM)])
    }

    /// The given `(prefix, namespace)` pairs; the prefix of the default namespace is empty.
    pub fn new<'a>(bindings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let bindings =
            bindings.into_iter().map(|(prefix, ns)| (prefix.into(), ns.into())).collect();
        Self { bindings }
    }

    /// The namespace bound to `prefix`; the empty prefix is the default namespace.
    pub fn get(&self, prefix: &str) -> Option<&str> {
        self.bindings.iter().rev().find(|(p, _)| **p == *prefix).map(|(_, ns)| &**ns)
    }

    /// The `(prefix, namespace)` pairs, the default namespace's prefix being empty.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> + ExactSizeIterator {
        self.bindings.iter().map(|(prefix, ns)| (&**prefix, &**ns))
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::empty()
    }
}
