//! Which addresses are the app's own.
//!
//! On App Engine an app was `APP_ID@appspot.com` and `anything@APP_ID.appspotchat.com`. Here it is
//! `anything@DOMAIN`, where DOMAIN is the component's; the old forms are aliases of those.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::jid::{Jid, WireJid};
use crate::ns;

const APPSPOT: &str = "appspot.com";
const APPSPOTCHAT: &str = "appspotchat.com";
/// What stands between a version and the app in `anything@VERSION.latest.DOMAIN`.
const LATEST: &str = ".latest.";
/// The resourcepart that App Engine gave to a sender without one.
pub const DEFAULT_RESOURCE: &str = "bot";

/// In which form the app gets to see its own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Presentation {
    /// As they are: `anything@DOMAIN`.
    #[default]
    Domain,
    /// As on App Engine: `APP_ID@appspot.com` and `anything@APP_ID.appspotchat.com`, for apps that
    /// look at them.
    AppEngine,
}

/// The addresses of one app, and how App Engine's forms of them map onto its domain.
#[derive(Debug, Clone)]
pub struct Addresses {
    app_id: String,
    domain: String,
    chat_domain: String,
    versions: Vec<String>,
    /// The version that this is, and the domain of the default one, unless this is that.
    version: Option<(String, String)>,
    presentation: Presentation,
    default_sender: Jid,
    /// The app has an ordinary account, and no other address.
    account: bool,
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
        Ok(Self {
            app_id,
            domain,
            chat_domain,
            versions: Vec::new(),
            version: None,
            presentation: Presentation::default(),
            default_sender,
            account: false,
        })
    }

    /// The one address of an app that has an ordinary account: `account`, with its resourcepart.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `app_id` is not a localpart.
    pub fn of_account(app_id: &str, account: &Jid) -> Result<Self> {
        let base = Self::new(app_id, account.domainpart())?;
        Ok(Self { default_sender: account.clone(), account: true, ..base })
    }

    /// The addresses of one version that is not the default one: it has a component of its own, at
    /// `VERSION.latest.DOMAIN`, and what it sends from an address of the default version goes out from
    /// the same name at its own domain.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as in [`Addresses::new`], or if `version` is not one label of a domain name.
    pub fn of_version(app_id: &str, domain: &str, version: &str) -> Result<Self> {
        let base = Self::new(app_id, domain)?;
        let label = base.version_label(version)?;
        let mut addresses = Self::new(app_id, &format!("{label}{LATEST}{}", base.domain))?;
        addresses.version = Some((label, base.domain));
        Ok(addresses)
    }

    /// The same addresses, shown to the app in this form.
    #[must_use]
    pub fn with_presentation(mut self, presentation: Presentation) -> Self {
        self.presentation = presentation;
        self
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
            let label = self.version_label(version.as_ref())?;
            self.versions.push(label);
        }
        Ok(self)
    }

    /// A version as it stands in a domain name.
    fn version_label(&self, version: &str) -> Result<String> {
        let domain = Jid::parse(&format!("{version}{LATEST}{}", self.domain));
        let label = domain.as_ref().ok().and_then(|jid| jid.domainpart().split('.').next());
        match label {
            Some(label) if !version.contains(['.', '@', '/']) => Ok(label.to_owned()),
            _ => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the version {version:?} cannot be part of a domain name; use letters, digits and hyphens"
                ),
            )),
        }
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

    /// Whether the app has an ordinary account: one address, and a roster that its server keeps.
    pub fn is_account(&self) -> bool {
        self.account
    }

    /// The name under which the app's rows are kept in a store: its domain, or its account.
    pub fn store_key(&self) -> &str {
        if self.account { self.default_sender.bare() } else { &self.domain }
    }

    /// The namespace of the stream's stanzas.
    pub fn namespace(&self) -> &'static str {
        if self.account { ns::CLIENT } else { ns::COMPONENT }
    }

    /// What stands as `from` in a stanza: an account's server knows who sends.
    pub(super) fn stamped<'a>(&self, from: &'a str) -> Option<&'a str> {
        (!self.account).then_some(from)
    }

    /// Whether `jid` is an address of this app.
    pub fn is_own(&self, jid: &WireJid) -> bool {
        if self.account {
            let own = &self.default_sender;
            return jid.domainpart() == own.domainpart() && jid.localpart() == own.localpart();
        }
        self.is_own_domain(jid.domainpart())
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
        let mut jid = self.resolve(Jid::parse(from)?)?;
        if self.account {
            return self.account_sender(&jid);
        }
        if self.version.as_ref().is_some_and(|(_, default)| default == jid.domainpart()) {
            jid = jid.with_domain(&self.domain)?;
        }
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

    /// An account sends as itself; with which resourcepart, its server decides.
    fn account_sender(&self, from: &Jid) -> Result<Cow<'_, Jid>> {
        let own = &self.default_sender;
        if from.bare() == own.bare() {
            return Ok(Cow::Borrowed(own));
        }
        Err(Error::new(
            ErrorKind::InvalidSender,
            format!(
                "{:?} is not an address of this app, which has the account {} and can send from no other; leave the sender out",
                from.as_str(),
                own.bare()
            ),
        ))
    }

    /// Where a stanza to `to` goes: the address, or what an alias of this app stands for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `to` is no address.
    pub fn recipient(&self, to: &str) -> Result<Jid> {
        self.resolve(Jid::parse(to)?)
    }

    /// An address as the app gets to see it: its own in the form that was chosen, any other as it was
    /// written. [`Addresses::sender`] and [`Addresses::recipient`] take either form.
    pub fn present<'j>(&self, jid: &'j WireJid) -> Cow<'j, str> {
        let domain = jid.domainpart();
        if self.presentation == Presentation::Domain || !self.is_own(jid) {
            return jid.as_str().into();
        }
        if self.account {
            let resource = jid.resourcepart().map(|it| format!("/{it}")).unwrap_or_default();
            return format!("{}@{APPSPOT}{resource}", self.app_id).into();
        }
        let version = match &self.version {
            Some((version, _)) => Some(version.as_str()),
            None => {
                domain.strip_suffix(self.domain.as_str()).and_then(|rest| rest.strip_suffix(LATEST))
            }
        };
        let local = jid.localpart();
        let mut out = local.map(|local| format!("{local}@")).unwrap_or_default();
        match version {
            None if local == Some(&self.app_id) => out.push_str(APPSPOT),
            None => out.push_str(&self.chat_domain),
            Some(version) => {
                out.push_str(version);
                out.push_str(LATEST);
                out.push_str(&self.chat_domain);
            }
        }
        if let Some(resource) = jid.resourcepart() {
            out.push('/');
            out.push_str(resource);
        }
        out.into()
    }

    fn serves_version(&self, version: &str) -> bool {
        self.versions.iter().any(|served| served == version)
    }

    fn resolve(&self, jid: Jid) -> Result<Jid> {
        if self.account && jid.domainpart() == APPSPOT && jid.localpart() == Some(&self.app_id) {
            return Ok(self.default_sender.clone());
        }
        match self.domain_of_alias(&jid) {
            Some(domain) => jid.with_domain(&domain),
            None => Ok(jid),
        }
    }

    /// The served domain that an address in App Engine's form stands for. A version that has no
    /// connection of its own is served by the default one.
    fn domain_of_alias(&self, jid: &Jid) -> Option<Cow<'_, str>> {
        let domain = jid.domainpart();
        let default = self.version.as_ref().map_or(&self.domain, |(_, default)| default);
        if domain == APPSPOT {
            return (jid.localpart() == Some(&self.app_id)).then_some(default.into());
        }
        let rest = domain.strip_suffix(self.chat_domain.as_str())?;
        if rest.is_empty() {
            return Some(default.into());
        }
        let version = rest.strip_suffix(LATEST)?;
        if self.version.as_ref().is_some_and(|(own, _)| own == version) {
            return Some((&self.domain).into());
        }
        if self.serves_version(version) {
            return Some(format!("{version}{LATEST}{}", self.domain).into());
        }
        (!version.is_empty()).then_some(default.into())
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

    #[test]
    fn an_account_is_one_address() {
        let account = Jid::parse("bot@x.example/bot").unwrap();
        let addresses = Addresses::of_account("shop", &account).unwrap();
        let own = |text: &str| addresses.is_own(&WireJid::new(text));
        assert!(own("bot@x.example") && own("BOT@x.example/other"));
        assert!(!own("x.example") && !own("alice@x.example") && !own("bot@y.example"));
        for from in [
            "",
            "bot@x.example",
            "Bot@x.example/other",
            "shop@appspot.com",
            "bot@shop.appspotchat.com",
        ] {
            assert_eq!(addresses.sender(Some(from)).expect(from).as_str(), "bot@x.example/bot");
        }
        for from in ["shop@x.example", "alice@x.example", "any@shop.appspotchat.com", "x.example"] {
            let error = addresses.sender(Some(from)).expect_err(from);
            assert_eq!(error.kind(), ErrorKind::InvalidSender, "{from}");
        }
        assert_eq!(addresses.store_key(), "bot@x.example");
        let shown = addresses.with_presentation(Presentation::AppEngine);
        let present = |text: &str| shown.present(&WireJid::new(text)).into_owned();
        assert_eq!(present("bot@x.example/r"), "shop@appspot.com/r");
        assert_eq!(present("alice@x.example/r"), "alice@x.example/r");
    }

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
    fn a_version_sends_from_its_own_domain_whatever_name_it_uses() {
        let beta = Addresses::of_version("s~shop", "bot.example.com", "Beta").unwrap();
        assert_eq!(beta.domain(), "beta.latest.bot.example.com");
        let of = |from| beta.sender(Some(from)).map(|jid| jid.as_str().to_owned()).unwrap();
        assert_eq!(beta.sender(None).unwrap().as_str(), "shop@beta.latest.bot.example.com/bot");
        for from in ["shop@appspot.com", "shop@bot.example.com", "shop@shop.appspotchat.com"] {
            assert_eq!(of(from), "shop@beta.latest.bot.example.com/bot", "{from}");
        }
        assert_eq!(of("a@beta.latest.shop.appspotchat.com/x"), "a@beta.latest.bot.example.com/x");
        assert_eq!(of("a@beta.latest.bot.example.com/x"), "a@beta.latest.bot.example.com/x");
        let foreign = beta.sender(Some("a@other.example")).unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::InvalidSender);
        // It can write to the default version, and only its own domain is its own.
        let to = beta.recipient("news@shop.appspotchat.com").unwrap();
        assert_eq!(to.as_str(), "news@bot.example.com");
        assert!(beta.is_own_domain("beta.latest.bot.example.com"));
        assert!(!beta.is_own_domain("bot.example.com"));
        for version in ["", "a.b", "a b", "a@b", "a/b"] {
            let error = Addresses::of_version("shop", "bot.example.com", version);
            assert_eq!(error.expect_err(version).kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn addresses_are_shown_in_app_engines_form_and_come_back() {
        let shop = shop().with_versions(["beta"]).unwrap();
        let beta = Addresses::of_version("shop", "bot.example.com", "beta").unwrap();
        for (addresses, own, shown) in [
            (&shop, "shop@bot.example.com/bot", "shop@appspot.com/bot"),
            (&shop, "shop@bot.example.com", "shop@appspot.com"),
            (&shop, "news@bot.example.com/a@b/c", "news@shop.appspotchat.com/a@b/c"),
            (&shop, "bot.example.com/x", "shop.appspotchat.com/x"),
            (&shop, "a@beta.latest.bot.example.com", "a@beta.latest.shop.appspotchat.com"),
            (&beta, "a@beta.latest.bot.example.com/x", "a@beta.latest.shop.appspotchat.com/x"),
            (&beta, "shop@beta.latest.bot.example.com", "shop@beta.latest.shop.appspotchat.com"),
        ] {
            let wire = WireJid::new(own);
            assert_eq!(addresses.present(&wire), own, "as it is unless asked for");
            let addresses = addresses.clone().with_presentation(Presentation::AppEngine);
            assert_eq!(addresses.present(&wire), shown);
            assert_eq!(addresses.recipient(shown).unwrap().as_str(), own);
            let sender = addresses.sender(Some(shown)).unwrap().into_owned();
            assert_eq!(sender.as_str().trim_end_matches("/bot"), own.trim_end_matches("/bot"));
        }
        let addresses = shop.with_presentation(Presentation::AppEngine);
        for other in ["User@Example.com/R", "a@old.latest.bot.example.com", "not an address"] {
            assert_eq!(addresses.present(&WireJid::new(other)), other);
        }
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
