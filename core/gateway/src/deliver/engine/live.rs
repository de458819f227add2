//! What the settings say, ready for use.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use appxmpp::service::Retry;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config;
use crate::deliver::sign::{self, Signer};
use crate::deliver::target::Target;
use crate::deliver::template;
use crate::rest::media::Media;

/// What the settings say, ready for use. A delivery keeps those it began with.
pub(super) struct Live {
    pub(super) app: Arc<config::App>,
    signer: Signer,
    agent: HeaderValue,
    /// Where form posts go.
    pub(super) url: Option<Target>,
    /// Where callbacks go, if that is the same for all of them.
    pub(super) callback: Option<Target>,
    /// What callbacks are posted as; the callback may choose another than the settings, also while
    /// others are put in their place.
    pub(super) media: Arc<Mutex<Media>>,
}

impl Live {
    pub(super) fn new(app: Arc<config::App>) -> Arc<Self> {
        let media = Arc::new(Mutex::new(app.callback_media));
        Self::with_media(app, media)
    }

    /// `app` in the place of these, and whether its callback has still to be asked what it would like
    /// to get.
    pub(super) fn followed_by(&self, app: Arc<config::App>) -> (Arc<Self>, bool) {
        let before = &self.app;
        let is_asked =
            before.callback_url == app.callback_url && before.callback_media == app.callback_media;
        match is_asked {
            true => (Self::with_media(app, Arc::clone(&self.media)), false),
            false => (Self::new(app), true),
        }
    }

    fn with_media(app: Arc<config::App>, media: Arc<Mutex<Media>>) -> Arc<Self> {
        let agent = if app.strict {
            HeaderValue::from_static("Prosody XMPP Server")
        } else {
            HeaderValue::from_static(concat!("appxmpp/", env!("CARGO_PKG_VERSION")))
        };
        let target = |url: &Option<String>| url.as_deref().and_then(|url| Target::parse(url).ok());
        let is_fixed = !app.callback_url.as_deref().is_some_and(template::is_template);
        Arc::new(Self {
            url: target(&app.url),
            callback: target(&app.callback_url).filter(|_| is_fixed),
            signer: Signer::new(app.webhook_secret.expose()),
            media,
            agent,
            app,
        })
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(USER_AGENT, self.agent.clone());
        headers
    }

    pub(super) fn sign(&self, headers: &mut HeaderMap, delivery: &str, body: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let value = self.signer.value(now, delivery, body);
        let values = [
            (sign::SIGNATURE, HeaderValue::try_from(value)),
            (sign::DELIVERY, HeaderValue::from_str(delivery)),
        ];
        for (name, value) in values {
            if let Ok(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

impl config::App {
    pub(super) fn retry(&self) -> Retry {
        Retry {
            first: self.webhook_pause,
            longest: self.webhook_longest_pause,
            deadline: if self.strict { Duration::ZERO } else { self.webhook_deadline },
        }
    }
}
