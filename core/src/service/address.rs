//! Which addresses are the app's own.
//!
//! On App Engine an app was `APP_ID@appspot.com` and `anything@APP_ID.appspotchat.com`. Here it is
//! `anything@DOMAIN`, where DOMAIN is the component's; the old forms are aliases of those.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::jid::Jid;

const APPSPOT: &str = "appspot.com";
const APPSPOTCHAT: &str = "appspotchat.com";
/// What stands between a version and the app in `anything@VERSION.latest.DOMAIN`.
const LATEST: &str = ".latest.";
/// The resourcepart that App Engine gave to a sender without one.
pub const DEFAULT_RESOURCE: &str = "bot";

/// The addresses of one app, and how App Engine's forms of them map onto its domain.
#[derive(Debug, Clone)]
pub struct Addresses {
    app_id: String,
    domain: String,
    chat_domain: String,
    versions: Vec<String>,
    default_sender: Jid,
}

impl Addresses {
    /// The addresses of the app `app_id` at the component's `domain`.
    ///
    /// `app_id` may carry App Engine's partition and domain (`s~shop`, `example.com:shop`).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `domain` is not a domain name or `app_id` not a localpart.
    pub fn new(app_id: &str, domain: &str) -> Result<Self> {
        let parsed = Jid::parse(domain).ok().filter(|jid| jid.as_str() == jid.domainpart());
        let Some(domain) = parsed.map(Jid::into_string) else {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the component's domain {domain:?} is not a domain name; give one like bot.example.com"
                ),
            ));
        };
        let id = plain_app_id(app_id);
        let default_sender = Jid::from_parts(Some(id), &domain, Some(DEFAULT_RESOURCE));
        let Ok(default_sender) = default_sender else {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the application id {app_id:?} cannot be the name of an address; use letters, digits and hyphens"
                ),
            ));
        };
        let app_id = default_sender.localpart().unwrap_or_default().to_owned();
        let chat_domain = format!("{app_id}.{APPSPOTCHAT}");
        Ok(Self { app_id, domain, chat_domain, versions: Vec::new(), default_sender })
    }

    /// The same app, which also serves `anything@VERSION.latest.DOMAIN` for each of `versions`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a version is not one label of a domain name.
    pub fn with_versions<V: AsRef<str>>(
        mut self,
        versions: impl IntoIterator<Item = V>,
    ) -> Result<Self> {
        for version in versions {
            let version = version.as_ref();
            let domain = Jid::parse(&format!("{version}{LATEST}{}", self.domain));
            let label = domain.as_ref().ok().and_then(|jid| jid.domainpart().split('.').next());
            match label {
                Some(label) if !version.contains(['.', '@', '/']) => {
                    self.versions.push(label.to_owned());
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!(
                            "the version {version:?} cannot be part of a domain name; use letters, digits and hyphens"
                        ),
                    ));
                }
            }
        }
        Ok(self)
    }

    /// The application id, without partition and domain, as it stands in addresses.
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// The component's domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Who sends when the app names nobody: `APP_ID@DOMAIN/bot`.
    pub fn default_sender(&self) -> &Jid {
        &self.default_sender
    }

    /// Whether `domainpart`, prepared, is served by this app.
    pub fn is_own_domain(&self, domainpart: &str) -> bool {
        domainpart == self.domain
            || domainpart
                .strip_suffix(self.domain.as_str())
                .and_then(|rest| rest.strip_suffix(LATEST))
                .is_some_and(|version| self.serves_version(version))
    }

    /// The full address that a call sends from: `from` if it is the app's own, in any of its
    /// forms, with `/bot` where it has no resourcepart; the default sender if it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `from` is no address, [`ErrorKind::InvalidSender`] if it is
    /// somebody else's: a server ends the whole stream for one stanza from a foreign address.
    pub fn sender(&self, from: Option<&str>) -> Result<Cow<'_, Jid>> {
        let Some(from) = from.filter(|from| !from.is_empty()) else {
            return Ok(Cow::Borrowed(&self.default_sender));
        };
        if from == self.default_sender.as_str() {
            return Ok(Cow::Borrowed(&self.default_sender));
        }
        let jid = self.resolve(Jid::parse(from)?)?;
        if !self.is_own_domain(jid.domainpart()) {
            return Err(Error::new(
                ErrorKind::InvalidSender,
                format!(
                    "{:?} is not an address of this app; send from anything@{} or leave the sender out",
                    jid.as_str(),
                    self.domain
                ),
            ));
        }
        if jid.resourcepart().is_none() {
            return jid.with_resource(DEFAULT_RESOURCE).map(Cow::Owned);
        }
        Ok(Cow::Owned(jid))
    }

    /// Where a stanza to `to` goes: the address, or what an alias of this app stands for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `to` is no address.
    pub fn recipient(&self, to: &str) -> Result<Jid> {
        self.resolve(Jid::parse(to)?)
    }

    fn serves_version(&self, version: &str) -> bool {
        self.versions.iter().any(|served| served == version)
    }

    fn resolve(&self, jid: Jid) -> Result<Jid> {
        match self.domain_of_alias(&jid) {
            Some(domain) => jid.with_domain(&domain),
            None => Ok(jid),
        }
    }

    /// The served domain that an address in App Engine's form stands for. A version that has no
    /// connection of its own is served by the default one.
    fn domain_of_alias(&self, jid: &Jid) -> Option<Cow<'_, str>> {
        let domain = jid.domainpart();
        if domain == APPSPOT {
            return (jid.localpart() == Some(&self.app_id)).then_some((&self.domain).into());
        }
        let rest = domain.strip_suffix(self.chat_domain.as_str())?;
        if rest.is_empty() {
            return Some((&self.domain).into());
        }
        let version = rest.strip_suffix(LATEST)?;
        if self.serves_version(version) {
            return Some(format!("{version}{LATEST}{}", self.domain).into());
        }
        (!version.is_empty()).then_some((&self.domain).into())
    }
}

/// An application id without App Engine's partition (`s~`) and domain (`example.com:`).
pub fn plain_app_id(application_id: &str) -> &str {
    let without_partition = application_id.rsplit('~').next().unwrap_or(application_id);
    without_partition.rsplit(':').next().unwrap_or(without_partition)
}

/// The application id of an app that was given none: the first label of its domain.
pub fn app_id_of_domain(domain: &str) -> &str {
    domain.split('.').next().unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Addresses {
        Addresses::new("s~shop", "Bot.Example.com").unwrap()
    }

    fn sender(from: &str) -> String {
        shop().sender(Some(from)).unwrap().as_str().to_owned()
    }

    fn refusal(from: &str) -> ErrorKind {
        shop().sender(Some(from)).expect_err(from).kind()
    }

    #[test]
    fn nobody_named_is_the_app_itself() {
        let addresses = shop();
        assert_eq!(addresses.sender(None).unwrap().as_str(), "shop@bot.example.com/bot");
        assert_eq!(addresses.sender(Some("")).unwrap().as_str(), "shop@bot.example.com/bot");
    }

    #[test]
    fn any_name_at_the_domain_is_the_apps() {
        assert_eq!(sender("news@bot.example.com"), "news@bot.example.com/bot");
        assert_eq!(sender("News@BOT.example.com/Desk"), "news@bot.example.com/Desk");
        assert_eq!(sender("bot.example.com"), "bot.example.com/bot");
        assert_eq!(sender("a@bot.example.com/b@c/d"), "a@bot.example.com/b@c/d");
    }

    #[test]
    fn app_engines_forms_are_aliases() {
        assert_eq!(sender("shop@appspot.com"), "shop@bot.example.com/bot");
        assert_eq!(sender("SHOP@AppSpot.com/x"), "shop@bot.example.com/x");
        assert_eq!(sender("news@shop.appspotchat.com"), "news@bot.example.com/bot");
        assert_eq!(sender("news@2.latest.shop.appspotchat.com/x"), "news@bot.example.com/x");
    }

    #[test]
    fn a_served_version_keeps_its_own_domain() {
        let addresses = shop().with_versions(["Beta"]).unwrap();
        let of = |from| addresses.sender(Some(from)).map(|jid| jid.as_str().to_owned()).unwrap();
        assert_eq!(of("a@beta.latest.shop.appspotchat.com"), "a@beta.latest.bot.example.com/bot");
        assert_eq!(of("a@BETA.latest.bot.example.com"), "a@beta.latest.bot.example.com/bot");
        assert_eq!(of("a@old.latest.shop.appspotchat.com"), "a@bot.example.com/bot");
        let unserved = addresses.sender(Some("a@old.latest.bot.example.com"));
        assert_eq!(unserved.unwrap_err().kind(), ErrorKind::InvalidSender);
    }

    #[test]
    fn a_foreign_sender_is_refused() {
        for from in [
            "other@appspot.com",
            "appspot.com",
            "a@other.appspotchat.com",
            "a@notshop.appspotchat.com",
            "a@x.shop.appspotchat.com",
            "a@.latest.shop.appspotchat.com",
            "user@example.com",
            "a@x.bot.example.com",
            "a@1.latest.bot.example.com",
            "a@xbot.example.com",
        ] {
            let kind = refusal(from);
            assert!(matches!(kind, ErrorKind::InvalidSender | ErrorKind::InvalidJid), "{from}");
        }
        assert_eq!(refusal("user@example.com"), ErrorKind::InvalidSender);
    }

    #[test]
    fn a_sender_that_is_no_address_is_refused_as_such() {
        for from in ["@bot.example.com", "a@", "a b@bot.example.com", "a@bot.example.com/"] {
            assert_eq!(refusal(from), ErrorKind::InvalidJid, "{from}");
        }
    }

    #[test]
    fn an_app_can_write_to_itself_under_its_old_name() {
        let to = |text: &str| shop().recipient(text).unwrap().as_str().to_owned();
        assert_eq!(to("shop@appspot.com"), "shop@bot.example.com");
        assert_eq!(to("x@shop.appspotchat.com/r"), "x@bot.example.com/r");
        assert_eq!(to("other@appspot.com"), "other@appspot.com");
        assert_eq!(to("User@Example.com/R"), "user@example.com/R");
    }

    #[test]
    fn application_ids_lose_partition_and_domain() {
        assert_eq!(plain_app_id("s~shop"), "shop");
        assert_eq!(plain_app_id("s~example.com:shop"), "shop");
        assert_eq!(plain_app_id("shop"), "shop");
        assert_eq!(app_id_of_domain("bot.example.com"), "bot");
    }

    #[test]
    fn impossible_settings_are_named() {
        for (id, domain) in [("shop", "not a domain"), ("shop", "a@b"), ("a b", "b"), ("", "b")] {
            let error = Addresses::new(id, domain).expect_err("impossible");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
        for version in ["", "a.b", "a b", "a@b"] {
            let error = shop().with_versions([version]).expect_err(version);
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}
