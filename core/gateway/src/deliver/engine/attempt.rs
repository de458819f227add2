//! One attempt of a delivery: what is posted where, and how that went.

use std::sync::PoisonError;

use appxmpp::service::{Attempt, Delivery};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::live::Live;
use super::{Engine, Outbox, inbound};
use crate::deliver::client::{Answer, Failure};
use crate::deliver::reply::Inbound;
use crate::deliver::target::Target;
use crate::deliver::{multipart, template};
use crate::metrics::DeliveryOutcome;
use crate::rest::media::Media;
use crate::rest::path::Kind;
use crate::rest::stanza;

const ACCEPTED: &str =
    "application/xmpp+xml, application/json, application/x-www-form-urlencoded, text/plain";

/// How an attempt went.
pub(super) struct Tried {
    pub(super) result: Result<Answer, Failure>,
    pub(super) outcome: DeliveryOutcome,
}

impl Tried {
    fn new(result: Result<Answer, Failure>) -> Self {
        let outcome = match &result {
            Ok(answer) => DeliveryOutcome::of(answer.status),
            Err(failure) => DeliveryOutcome::failed(failure),
        };
        Self { result, outcome }
    }

    pub(super) fn attempt(&self) -> Attempt {
        match &self.result {
            Ok(answer) => {
                Attempt::Answered { status: answer.status, retry_after: answer.retry_after }
            }
            Err(Failure::Connect(_) | Failure::Timeout | Failure::Broken(_)) => Attempt::Unanswered,
            // Another attempt would end the same way.
            Err(Failure::Unusable(_)) => Attempt::Answered { status: 500, retry_after: None },
        }
    }
}

impl<O: Outbox> Engine<O> {
    pub(super) async fn attempt(&self, live: &Live, delivery: &Delivery, id: &str) -> Tried {
        if delivery.path.is_empty() {
            self.callback(live, delivery, id).await
        } else {
            self.form_post(live, delivery, id).await
        }
    }

    async fn callback(&self, live: &Live, delivery: &Delivery, id: &str) -> Tried {
        let stanza = &delivery.stanza;
        let (Some(inbound), Some(url)) = (inbound(stanza, ""), &live.app.callback_url) else {
            return Tried::new(Err(Failure::Unusable("there is no callback_url any more".into())));
        };
        let media = *live.media.lock().unwrap_or_else(PoisonError::into_inner);
        let target = match &live.callback {
            Some(target) => Ok(target.clone()),
            None => Target::parse(&expand(url, &inbound)),
        };
        let mut headers = live.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let language = stanza.lang().and_then(|lang| HeaderValue::from_str(lang).ok());
        if let Some(language) = language {
            headers.insert(CONTENT_LANGUAGE, language);
        }
        let body = stanza::to_media(stanza, media, live.app.strict);
        Tried::new(self.post(live, id, target, headers, body).await)
    }

    async fn form_post(&self, live: &Live, delivery: &Delivery, id: &str) -> Tried {
        let Some(base) = &live.url else {
            return Tried::new(Err(Failure::Unusable("there is no url any more".into())));
        };
        let form = multipart::encode(&delivery.fields);
        let content_type = HeaderValue::try_from(form.content_type)
            .unwrap_or(HeaderValue::from_static("multipart/form-data"));
        let body = Bytes::from(form.body);
        let mut paths = paths(delivery.path, live.app.fallback_paths).peekable();
        loop {
            let path = paths.next().unwrap_or(delivery.path);
            let target = base.below(path);
            let mut headers = live.headers();
            headers.insert(CONTENT_TYPE, content_type.clone());
            let tried = Tried::new(self.post(live, id, target, headers, body.clone()).await);
            let Ok(Answer { status, .. }) = tried.result else { return tried };
            if status == 404 && paths.peek().is_some() {
                continue;
            }
            if tried.outcome != DeliveryOutcome::Ok {
                tracing::warn!(app = live.app.name, path, status, "the app refused a delivery");
            }
            return tried;
        }
    }

    async fn post(
        &self,
        live: &Live,
        id: &str,
        target: Result<Target, Failure>,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let target = target?;
        live.sign(&mut headers, id, &body);
        let posted = self.poster.post(&target, headers, body, live.app.webhook_timeout).await;
        posted.inspect_err(|failure| {
            tracing::warn!(app = live.app.name, delivery = id, "webhook failed: {failure}");
        })
    }

    /// Asks the callback what it would like to get, as mod_rest does when a host is loaded.
    pub(super) async fn probe(&self) {
        let live = self.live();
        let Some(url) = &live.app.callback_url else { return };
        let own = Inbound {
            kind: Kind::Message,
            from: &live.app.domain,
            to: &live.app.domain,
            id: None,
            type_: Some("info"),
            answer_id: "",
            wants_receipt: false,
        };
        let url = expand(&url.replace("{kind}", "meta"), &own);
        let Ok(target) = Target::parse(&url) else { return };
        let asked = self
            .poster
            .request(
                http::Method::OPTIONS,
                &target,
                live.headers(),
                Bytes::new(),
                live.app.webhook_timeout,
            )
            .await;
        match asked {
            Ok(answer) if answer.status == 200 => {
                if let Some(accept) = &answer.accept {
                    let media = Media::of_answer(Some(accept), None);
                    *live.media.lock().unwrap_or_else(PoisonError::into_inner) = media;
                    tracing::info!(
                        app = live.app.name,
                        media = media.name(),
                        "the callback chose its media type"
                    );
                }
            }
            Ok(answer) => {
                tracing::debug!(
                    app = live.app.name,
                    status = answer.status,
                    "the callback does not answer OPTIONS"
                );
            }
            Err(failure) => {
                tracing::warn!(app = live.app.name, "the callback is not there yet: {failure}")
            }
        }
    }
}

fn expand(url: &str, inbound: &Inbound<'_>) -> String {
    let fields = template::Fields {
        kind: inbound.kind.name(),
        type_: inbound.type_,
        to: inbound.to,
        from: inbound.from,
    };
    template::expand(url, &fields)
}

/// The path itself, and what apps copied from a faulty sample listen on.
fn paths(path: &'static str, fallback: bool) -> impl Iterator<Item = &'static str> {
    let is_error = path == "/_ah/xmpp/error/";
    let other = (fallback && is_error).then_some("/_ah/xmpp/message/error/");
    let bare = path.strip_suffix('/').filter(|_| fallback);
    [Some(path), other, bare].into_iter().flatten()
}
