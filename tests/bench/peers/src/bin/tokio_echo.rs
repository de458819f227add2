//! Echo with tokio-xmpp's own component: `send_stanza` for each reply, as its echo example does.
//! `BENCH_FLUSH=idle`: replies are fed, and flushed once nothing more is waiting; the cheapest way its API offers.

use appxmpp_bench_peers::{connect, flag, say};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio_xmpp::Stanza;
use tokio_xmpp::parsers::message::MessageType;

fn reply(stanza: Stanza) -> Option<Stanza> {
    match stanza {
        Stanza::Message(mut message) if message.type_ != MessageType::Error => {
            std::mem::swap(&mut message.from, &mut message.to);
            Some(message.into())
        }
        _ => None,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), tokio_xmpp::Error> {
    let flush_idle = flag("BENCH_FLUSH", "idle");
    let mut component = connect().await?;
    say("ready");
    while let Some(first) = component.next().await {
        if !flush_idle {
            if let Some(reply) = reply(first) {
                component.send_stanza(reply).await?;
            }
            continue;
        }
        let mut next = Some(first);
        while let Some(stanza) = next {
            if let Some(reply) = reply(stanza) {
                component.feed(reply).await?;
            }
            next = component.next().now_or_never().flatten();
        }
        component.flush().await?;
    }
    Ok(())
}
