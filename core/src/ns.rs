//! XML namespaces, each written once.

/// Component stanzas, [XEP-0114](https://xmpp.org/extensions/xep-0114.html) §3.
pub const COMPONENT: &str = "jabber:component:accept";
/// Client stanzas, RFC 6120 §4.8.2.
pub const CLIENT: &str = "jabber:client";
/// The stream element and its features, RFC 6120 §4.8.1.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Stream error conditions, RFC 6120 §4.9.2.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Stanza error conditions, RFC 6120 §8.3.2.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// The `xml:` prefix, Namespaces in XML 1.0 §3.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The `xmlns:` prefix, Namespaces in XML 1.0 §3.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// STARTTLS, RFC 6120 §5.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL, RFC 6120 §6.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding, RFC 6120 §7.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Stream management, XEP-0198.
pub const SM: &str = "urn:xmpp:sm:3";
/// The roster, RFC 6121 §2.
pub const ROSTER: &str = "jabber:iq:roster";
/// Service discovery, XEP-0030 §3.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Service discovery items, XEP-0030 §4.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XMPP ping, XEP-0199.
pub const PING: &str = "urn:xmpp:ping";
/// Software version, XEP-0092.
pub const VERSION: &str = "jabber:iq:version";
/// Entity time, XEP-0202.
pub const TIME: &str = "urn:xmpp:time";
/// Delayed delivery, XEP-0203.
pub const DELAY: &str = "urn:xmpp:delay";
/// Which types of channel binding a server offers, XEP-0440.
pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
