//! Where a webhook is: a URL, taken apart once.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, uri};

use super::client::Failure;

/// The server of a URL; connections to it are shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Its name or address, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether connections to it are encrypted (`https`).
    pub is_secure: bool,
}

/// What a request is for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whom to connect to.
    pub origin: Arc<Origin>,
    /// What to ask for.
    pub path: PathAndQuery,
    /// The `Host` header.
    pub host: HeaderValue,
}

impl Target {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// [`Failure::Unusable`] if it is no absolute URL.
    pub fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = || Failure::Unusable(format!("{url} is no URL"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let parts = uri.into_parts();
        let authority = parts.authority.ok_or_else(wrong)?;
        let is_secure = parts.scheme == Some(uri::Scheme::HTTPS);
        let default = if is_secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default);
        let host = match port == default {
            true => authority.host().to_owned(),
            false => format!("{}:{port}", authority.host()),
        };
        let name = authority.host().trim_matches(['[', ']']).to_owned();
        Ok(Self {
            host: HeaderValue::from_str(&host).map_err(|_| wrong())?,
            origin: Arc::new(Origin { host: name, port, is_secure }),
            path: parts.path_and_query.unwrap_or(PathAndQuery::from_static("/")),
        })
    }

    /// `path`, below this one's.
    ///
    /// # Errors
    /// [`Failure::Unusable`] if `path` cannot be part of a URL.
    pub fn below(&self, path: &'static str) -> Result<Self, Failure> {
        let joined = match self.path.path().trim_end_matches('/') {
            "" => Bytes::from_static(path.as_bytes()),
            base => format!("{base}{path}").into(),
        };
        let path = PathAndQuery::from_maybe_shared(joined).map_err(|error: uri::InvalidUri| {
            Failure::Unusable(format!("{path} is no path of a URL: {error}"))
        })?;
        Ok(Self { path, ..self.clone() })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, origin, host, path) in [
            ("http://127.0.0.1:8080/x?y=z", "127.0.0.1:8080", "127.0.0.1:8080", "/x?y=z"),
            ("http://App.example", "App.example:80", "App.example", "/"),
            ("http://app.example:80/", "app.example:80", "app.example", "/"),
            ("http://[::1]:81/", "[::1]:81", "[::1]:81", "/"),
            ("https://app.example/", "app.example:443", "app.example", "/"),
            ("https://app.example:80/", "app.example:80", "app.example:80", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.origin.to_string(), origin, "{url}");
            assert_eq!((target.host.to_str().unwrap(), target.path.as_str()), (host, path));
        }
        assert!(Target::parse("https://h").unwrap().origin.is_secure);
        assert!(!Target::parse("http://h:443").unwrap().origin.is_secure);
        assert_eq!(Target::parse("http://[::1]/").unwrap().origin.host, "::1");
        for wrong in ["", "/x", "http://", "http://a b/"] {
            assert!(matches!(Target::parse(wrong), Err(Failure::Unusable(_))), "{wrong}");
        }
    }

    #[test]
    fn paths_go_below_the_urls_own() {
        let below = |url| Target::parse(url).unwrap().below("/_ah/x/").unwrap().path;
        assert_eq!(below("http://h"), "/_ah/x/");
        assert_eq!(below("http://h/app"), "/app/_ah/x/");
        assert!(Target::parse("http://h").unwrap().below("/a b").is_err());
    }
}
