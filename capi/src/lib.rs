//! libappxmpp: the C face of appxmpp.
