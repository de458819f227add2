//! What the form on the page asks for, and doing it as the user.

use appxmpp::net::dev::{Presence, SubscriptionKind};
use appxmpp::stanza::{Condition, Stanza, StanzaBuilder, StanzaError};
use appxmpp::xml::{Limits, Scope};
use appxmpp::{Error, ErrorKind, Jid, Result, ns};

use super::Stage;
use super::story::{Entry, Who};
use crate::id;

/// The fields of the form.
#[derive(Debug, Default)]
pub(super) struct Act {
    fields: Vec<(String, String)>,
}

impl Act {
    pub(super) fn parse(form: &[u8]) -> Self {
        Self { fields: form_urlencoded::parse(form).into_owned().collect() }
    }

    /// A field's value; empty if it is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map_or("", |(_, value)| value)
    }

    pub(super) fn user(&self) -> &str {
        self.get("user").trim()
    }

    pub(super) fn to(&self) -> &str {
        self.get("to").trim()
    }

    /// The page, with this user and address filled in again.
    pub(super) fn place(&self) -> String {
        let mut query = form_urlencoded::Serializer::for_suffix(String::from("/?"), 2);
        query.append_pair("user", self.user()).append_pair("to", self.to());
        query.finish()
    }

    /// Does it; what was done.
    pub(super) fn perform(&self, stages: &[Stage]) -> Result<Entry> {
        let stage = self.stage(stages)?;
        let user = Jid::parse(self.user())?;
        let bare = user.to_bare();
        // Adding one that is there already would forget what it is subscribed to.
        let full = match stage.server.user(bare.as_str())? {
            Some(full) => full,
            None => {
                let full = user.with_resource(user.resourcepart().unwrap_or("console"))?;
                stage.server.add_user(full.as_str(), self.get("accepts") == "yes")?;
                full.as_str().to_owned()
            }
        };
        let address = |builder: StanzaBuilder| builder.from(&full).to(self.to());
        let xml = match self.get("do") {
            "message" => {
                let message = address(StanzaBuilder::message()).type_(self.get("type"));
                self.write(stage, message.id(&id::stanza()).body(self.checked("body")?).finish())?
            }
            "error" => self.write(stage, self.error(address(StanzaBuilder::message()))?)?,
            "raw" => self.write(stage, self.get("xml").trim().to_owned())?,
            "presence" => self.presence(stage, address(StanzaBuilder::presence()))?,
            "probe" => {
                stage.server.probe(self.user(), self.to())?;
                address(StanzaBuilder::presence()).type_("probe").finish()
            }
            word => {
                let Some(kind) = subscription(word) else {
                    let text = format!("there is no action {word:?}");
                    return Err(Error::new(ErrorKind::InvalidXml, text));
                };
                stage.server.subscription(self.user(), self.to(), kind)?;
                let to = Jid::parse(self.to())?.to_bare();
                let builder = StanzaBuilder::presence().from(bare.as_str()).to(to.as_str());
                builder.type_(word).finish()
            }
        };
        let scope = Scope::stream(ns::COMPONENT);
        let stanza = Stanza::parse(xml.into(), &scope, &Limits::default()).map_err(Error::from)?;
        Ok(Entry::stanza(Who::User, bare.as_str().to_owned(), stanza))
    }

    /// The app that the address belongs to.
    fn stage<'s>(&self, stages: &'s [Stage]) -> Result<&'s Stage> {
        let to = Jid::parse(self.to())?;
        let domain = to.domainpart();
        let of = |stage: &&Stage| {
            domain == stage.domain || domain.ends_with(&format!(".{}", stage.domain))
        };
        stages.iter().find(of).ok_or_else(|| {
            let all: Vec<&str> = stages.iter().map(|stage| stage.domain.as_str()).collect();
            let text = format!(
                "{to} is not an address of an app here; write anything@{}",
                all.join(" or anything@")
            );
            Error::new(ErrorKind::InvalidJid, text)
        })
    }

    fn write(&self, stage: &Stage, xml: String) -> Result<String> {
        stage.server.send_raw(self.user(), &xml)?;
        Ok(xml)
    }

    /// A text that XML can carry.
    fn checked(&self, name: &str) -> Result<&str> {
        let text = self.get(name);
        if appxmpp::xml::writer::is_xml_text(text) {
            return Ok(text);
        }
        let text = format!("the {name} holds a character that XML cannot carry; remove it");
        Err(Error::new(ErrorKind::InvalidXml, text))
    }

    /// What the user's server says when it cannot deliver what the app sent.
    fn error(&self, builder: StanzaBuilder) -> Result<String> {
        let condition = Condition::parse(self.get("condition")).ok_or_else(|| {
            let text = format!("{:?} is no condition of RFC 6120", self.get("condition"));
            Error::new(ErrorKind::InvalidXml, text)
        })?;
        let error = StanzaError::new(condition);
        let error = match self.checked("error_text")? {
            "" => error,
            text => error.with_text(text),
        };
        Ok(builder.id(&id::stanza()).type_("error").error(&error).finish())
    }

    fn presence(&self, stage: &Stage, builder: StanzaBuilder) -> Result<String> {
        let show = self.get("show");
        let presence = Presence {
            available: show != "unavailable",
            show: if matches!(show, "available" | "unavailable") { "" } else { show }.to_owned(),
            status: self.checked("status")?.to_owned(),
        };
        let mut builder = if presence.available { builder } else { builder.type_("unavailable") };
        if !presence.show.is_empty() {
            builder = builder.child_text("show", &presence.show);
        }
        if !presence.status.is_empty() {
            builder = builder.child_text("status", &presence.status);
        }
        // What a client sends at large, and, for an app that is not subscribed, to it directly.
        stage.server.set_presence(self.user(), presence.clone())?;
        if self.get("directed") == "yes" {
            stage.server.send_presence(self.user(), self.to(), presence)?;
        }
        Ok(builder.finish())
    }
}

fn subscription(word: &str) -> Option<SubscriptionKind> {
    Some(match word {
        "subscribe" => SubscriptionKind::Subscribe,
        "subscribed" => SubscriptionKind::Subscribed,
        "unsubscribe" => SubscriptionKind::Unsubscribe,
        "unsubscribed" => SubscriptionKind::Unsubscribed,
        _ => return None,
    })
}
