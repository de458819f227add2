//! App Engine's form posts: `multipart/form-data` laid out as the development console wrote it.

use crate::id;

/// A form ready to post.
#[derive(Debug)]
pub struct Form {
    /// The `Content-Type`, boundary included (quoted, as App Engine did).
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Encodes `fields` in order. Field names are this program's own and need no escaping.
pub fn encode<V: AsRef<str>>(fields: &[(&str, V)]) -> Form {
    let fields = || fields.iter().map(|(name, value)| (*name, value.as_ref()));
    let size: usize = fields().map(|(name, value)| name.len() + value.len() + 140).sum();
    // A sender who could guess the boundary could forge fields: draw again if it occurs.
    let boundary = loop {
        let boundary = String::from("----=") + &id::alphanumeric::<25>();
        if !fields().any(|(_, value)| value.contains(&boundary)) {
            break boundary;
        }
    };
    let mut body = Vec::with_capacity(size + boundary.len() + 8);
    for (name, value) in fields() {
        let subtype = if name == "stanza" { "xml" } else { "plain" };
        let head: [&[u8]; 8] = [
            b"--",
            boundary.as_bytes(),
            b"\r\nContent-Type: text/",
            subtype.as_bytes(),
            b"; charset=\"UTF-8\"\r\nContent-Disposition: form-data; name=\"",
            name.as_bytes(),
            b"\"\r\n\r\n",
            value.as_bytes(),
        ];
        head.iter().for_each(|part| body.extend_from_slice(part));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--");
    body.extend_from_slice(boundary.as_bytes());
    body.extend_from_slice(b"--\r\n");
    let content_type = ["multipart/form-data; boundary=\"", &boundary, "\""].concat();
    Form { content_type, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_app_engines() {
        let form = encode(&[("from", "a@b/c"), ("stanza", "<cli:message/>")]);
        let boundary = form.content_type.split('"').nth(1).unwrap();
        assert_eq!(form.content_type, format!("multipart/form-data; boundary=\"{boundary}\""));
        assert!(boundary.starts_with("----=") && boundary.len() == 30);
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=\"UTF-8\"\r\n\
             Content-Disposition: form-data; name=\"from\"\r\n\r\na@b/c\r\n\
             --{boundary}\r\nContent-Type: text/xml; charset=\"UTF-8\"\r\n\
             Content-Disposition: form-data; name=\"stanza\"\r\n\r\n<cli:message/>\r\n\
             --{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(form.body).unwrap(), expected);
    }

    #[test]
    fn no_two_forms_share_a_boundary() {
        let boundaries: std::collections::HashSet<String> =
            (0..64).map(|_| encode::<&str>(&[]).content_type).collect();
        assert_eq!(boundaries.len(), 64);
    }
}
