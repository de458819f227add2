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

impl Presentation {
    /// The form that a setting names: `domain` or `appengine`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "domain" => Ok(Self::Domain),
            "appengine" => Ok(Self::AppEngine),
            _ => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "addresses cannot be shown as {name:?}; write \"domain\" for anything@DOMAIN, as they are, or \"appengine\" for APP_ID@appspot.com and anything@APP_ID.appspotchat.com"
                ),
            )),
        }
    }
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

    /// The addresses of the app whose component is `domain`; with `version`, those of its version that has
    /// the component `VERSION.latest.DOMAIN`. Without `app_id` the app is called as the first label of
    /// DOMAIN.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as in [`Addresses::of_version`], or if the component of a version is not called
    /// after it.
    pub fn of_component(app_id: Option<&str>, domain: &str, version: Option<&str>) -> Result<Self> {
        let id = |domain| app_id.unwrap_or_else(|| app_id_of_domain(domain));
        let Some(version) = version else { return Self::new(id(domain), domain) };
        let prefix = format!("{version}{LATEST}").to_lowercase();
        let Some(default) = domain.to_lowercase().strip_prefix(&prefix).map(str::to_owned) else {
            let text = format!(
                "the component of the version {version:?} must be called {version}{LATEST}DOMAIN, not {domain}"
            );
            return Err(Error::new(ErrorKind::Config, text));
        };
        Self::of_version(id(&default), &default, version)
    }

    /// The addresses of the app that is `own` to its server: a component's domain, as in
    /// [`Addresses::of_component`], or an account's address. Without `app_id` an account's app is called as
    /// the account.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] also if an account is to have a version.
    pub fn of_own(own: &Jid, app_id: Option<&str>, version: Option<&str>) -> Result<Self> {
        match (own.localpart(), version) {
            (None, _) => Self::of_component(app_id, own.domainpart(), version),
            (Some(name), None) => Self::of_account(app_id.unwrap_or(name), own),
            (Some(_), Some(version)) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the account {} is one address and cannot be the version {version:?}; leave the version out, or connect as the component {version}{LATEST}DOMAIN",
                    own.bare()
                ),
            )),
        }
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

    /// In which form the app gets to see its own addresses.
    pub fn presentation(&self) -> Presentation {
        self.presentation
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
        let jid = self.origin(from)?;
        if self.account {
            return self.account_sender(&jid);
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

    /// What `from` stands for where this app sends: an alias for the address, and one of the default
    /// version for the same name at this version's domain. Whether it is the app's own is another
    /// question.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `from` is no address.
    pub fn origin(&self, from: &str) -> Result<Jid> {
        let jid = self.resolve(Jid::parse(from)?)?;
        match &self.version {
            Some((_, default)) if default == jid.domainpart() => jid.with_domain(&self.domain),
            _ => Ok(jid),
        }
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
mod tests;
