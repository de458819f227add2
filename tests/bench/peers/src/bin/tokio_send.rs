//! Sends messages with tokio-xmpp's own component, one flush at the end (`BENCH_FLUSH=each`: one per message).

use appxmpp_bench_peers::{connect, flag, say, setting, wait_for_runner};
use futures::SinkExt as _;
use tokio_xmpp::jid::Jid;
use tokio_xmpp::parsers::message::{Id, Lang, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = setting("BENCH_COUNT").parse()?;
    let body = "x".repeat(setting("BENCH_BODY").parse()?);
    let (to, from) = (setting("BENCH_TO"), format!("bot@{}/bot", setting("BENCH_DOMAIN")));
    let flush_each = flag("BENCH_FLUSH", "each");
    let mut component = connect().await?;
    say("ready");
    while wait_for_runner() {
        for number in 0..count {
            let mut message =
                Message::chat(Jid::new(&to)?).with_body(Lang::default(), body.clone());
            message.from = Some(Jid::new(&from)?);
            message.id = Some(Id(format!("0123456789abcdef-{number:x}")));
            if flush_each {
                component.send_stanza(message.into()).await?;
            } else {
                component.feed(message.into()).await?;
            }
        }
        component.flush().await?;
        say("done");
    }
    Ok(())
}
