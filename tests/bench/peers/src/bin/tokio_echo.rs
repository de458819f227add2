//! Echo with tokio-xmpp's own component. Replies are fed and flushed once nothing more is waiting:
//! the cheapest way its API offers.

use appxmpp_bench_peers::{connect, say};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio_xmpp::Stanza;
use tokio_xmpp::parsers::message::MessageType;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), tokio_xmpp::Error> {
    let mut component = connect().await?;
    say("ready");
    while let Some(first) = component.next().await {
        let mut next = Some(first);
        while let Some(stanza) = next {
            if let Stanza::Message(mut message) = stanza
                && message.type_ != MessageType::Error
            {
                std::mem::swap(&mut message.from, &mut message.to);
                component.feed(message.into()).await?;
            }
            next = component.next().now_or_never().flatten();
        }
        component.flush().await?;
    }
    Ok(())
}
