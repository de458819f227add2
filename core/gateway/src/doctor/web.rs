//! The web app: the names and ports of its webhooks, and their certificates.

use super::{Finding, PATIENCE, Report, connect, resolve};
use crate::config::App;
use crate::deliver::target::Target;
use crate::deliver::trust::Trust;

pub(super) fn examine(app: &App, report: &mut Report) {
    for (key, url) in [("url", &app.url), ("callback_url", &app.callback_url)] {
        if let Some(url) = url {
            webhook(key, url, &app.callback_trust, report);
        }
    }
}

fn webhook(key: &str, url: &str, trust: &Trust, report: &mut Report) {
    // What stands in braces is filled in for each stanza.
    let plain = url.split('{').next().unwrap_or(url);
    let Ok(target) = Target::parse(plain) else {
        let text = format!("{key} {url} is no URL; write one like http://127.0.0.1:8080");
        return report.say(&Err(text));
    };
    let origin = &target.origin;
    let Some(addresses) = resolve(key, &origin.host, origin.port, report) else { return };
    let stream = connect(&addresses).map_err(|why| {
        format!(
            "{key} {url} does not accept connections ({why}); start the web app, or correct {key}"
        )
    });
    let finding: Finding = stream.and_then(|mut stream| match origin.is_secure {
        false => Ok(format!("{key} {url} accepts connections")),
        true => {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let proved = trust.try_connect(&origin.host, &mut stream);
            proved
                .map(|()| format!("{key} {url} accepts connections, and its certificate is good"))
                .map_err(|why| {
                    format!(
                        "{key} {url}: {why}; give the web app a certificate for {}, or name the authority \
                         that issued its own in callback_ca",
                        origin.host
                    )
                })
        }
    });
    report.say(&finding);
}
