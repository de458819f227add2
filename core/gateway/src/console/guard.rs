//! Who may use the console: whoever has the key, and speaks to it under a name that no stranger's
//! page can take.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Uri};
use subtle::ConstantTimeEq as _;

use crate::id;
use crate::rest::serve::header;

pub(super) struct Guard {
    key: String,
    cookie: String,
}

impl Guard {
    /// For a server at `address`, with a key of its own.
    pub(super) fn new(address: &str) -> Self {
        // Cookies are shared by all ports of a host.
        let port = address.rsplit(':').next().unwrap_or_default();
        Self { key: id::stanza(), cookie: format!("appxmpp-console-{port}") }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether a request may pass; the cookie to set when it brings the key in its address.
    pub(super) fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, &'static str> {
        // A page elsewhere can have its own name resolve to this address, and then read everything
        // (DNS rebinding). A number or localhost it cannot have.
        let host = header(headers, HOST).unwrap_or_default();
        if !is_own_name(host) {
            return Err("open the console by its number or as localhost, not by another name\n");
        }
        if let Some(origin) = headers.get(ORIGIN)
            && origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) != Some(host)
        {
            return Err("another page must not use the console\n");
        }
        let given = uri.query().and_then(|query| query.strip_prefix("key="));
        if let Some(given) = given
            && *method == Method::GET
            && uri.path() == "/"
            && self.is_key(given)
        {
            let cookie = format!("{}={}; HttpOnly; SameSite=Strict; Path=/", self.cookie, self.key);
            return Ok(HeaderValue::from_str(&cookie).ok());
        }
        let bearer = header(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let kept = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| (name == self.cookie).then_some(value));
        match bearer.or(kept) {
            Some(given) if self.is_key(given) => Ok(None),
            _ => {
                Err("open the console by the address that it printed when it was started: the key \
                      is in it\n")
            }
        }
    }

    fn is_key(&self, given: &str) -> bool {
        given.as_bytes().ct_eq(self.key.as_bytes()).into()
    }
}

/// `localhost` or a number, with or without a port.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(guard: &Guard, method: Method, uri: &str, headers: &[(&str, &str)]) -> Option<bool> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let admitted = guard.admit(&method, &uri.parse().unwrap(), &map);
        admitted.ok().map(|cookie| cookie.is_some())
    }

    #[test]
    fn the_key_opens_it_in_three_forms() {
        let guard = Guard::new("127.0.0.1:5282");
        let key = guard.key();
        let host = ("Host", "127.0.0.1:5282");
        let get = |uri: &str, more: (&str, &str)| admit(&guard, Method::GET, uri, &[host, more]);
        let none = ("Accept", "*/*");
        assert_eq!(get(&format!("/?key={key}"), none), Some(true));
        assert_eq!(get("/", ("Cookie", &format!("a=b; appxmpp-console-5282={key}"))), Some(false));
        assert_eq!(get("/", ("Authorization", &format!("Bearer {key}"))), Some(false));
        for wrong in ["", "x", &key[1..], &format!("{key}x")] {
            assert_eq!(get(&format!("/?key={wrong}"), none), None, "{wrong}");
            assert_eq!(get("/", ("Cookie", &format!("appxmpp-console-5282={wrong}"))), None);
        }
        assert_eq!(get("/", ("Cookie", &format!("appxmpp-console-1={key}"))), None);
        assert_eq!(get(&format!("/events?key={key}"), none), None);
    }

    #[test]
    fn other_names_and_other_pages_are_refused() {
        let guard = Guard::new("127.0.0.1:5282");
        let cookie = format!("appxmpp-console-5282={}", guard.key());
        let post = |host: &str, origin: &str| {
            let headers = [("Host", host), ("Origin", origin), ("Cookie", &*cookie)];
            admit(&guard, Method::POST, "/act", &headers).is_some()
        };
        for own in ["127.0.0.1:5282", "localhost:5282", "[::1]:5282", "192.0.2.1"] {
            assert!(post(own, &format!("http://{own}")), "{own}");
        }
        for host in ["evil.example:5282", "127.0.0.1.evil.example", "", "localhost.evil.example"] {
            assert!(!post(host, &format!("http://{host}")), "{host}");
        }
        for origin in
            ["http://127.0.0.1:8080", "http://evil.example", "null", "https://127.0.0.1:5282"]
        {
            assert!(!post("127.0.0.1:5282", origin), "{origin}");
        }
    }
}
