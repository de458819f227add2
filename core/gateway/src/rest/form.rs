//! `application/x-www-form-urlencoded`: JSON's members, flat, every value a string.

use serde_json::{Map, Value};

/// The members in `body`; of several with one name the last counts.
pub fn parse(body: &[u8]) -> Map<String, Value> {
    form_urlencoded::parse(body)
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect()
}

/// Writes the members that a form can express: strings, numbers, and `true` as an empty value.
pub fn write(members: &Map<String, Value>) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (name, value) in members {
        match value {
            Value::String(text) => out.append_pair(name, text),
            Value::Number(number) => out.append_pair(name, &number.to_string()),
            Value::Bool(true) => out.append_pair(name, ""),
            _ => &mut out,
        };
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_of_equal_names_counts() {
        let members = parse(b"kind=message&to=bob%40localhost&body=a&body=b+c%21");
        let expected = json!({"kind": "message", "to": "bob@localhost", "body": "b c!"});
        assert_eq!(Value::from(members), expected);
    }

    #[test]
    fn what_is_nested_is_left_out() {
        let members =
            json!({"body": "x y&", "ping": true, "priority": 5, "error": {"a": 1}, "no": false});
        let text = write(members.as_object().unwrap());
        assert_eq!(text, "body=x+y%26&ping=&priority=5");
    }
}
