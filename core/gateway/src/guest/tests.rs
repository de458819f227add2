//! Responses that take their time, on a connection that has other things to do too.

use std::convert::Infallible;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::*;

impl Stream for DuplexStream {
    async fn readable(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A connection, of which `asked` gets the requests for `/later`.
struct Line {
    far: DuplexStream,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<Response<Body>>>,
    stop: watch::Sender<bool>,
}

async fn open(room: usize) -> Line {
    let (near, far) = tokio::io::duplex(room);
    let (asking, asked) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let house = Arc::new(House {
        builder: http1::Builder::new(),
        patience: Duration::from_secs(60),
        service: App(asking),
        metrics: Arc::default(),
        write_timeout: Duration::from_secs(60),
    });
    let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    tokio::spawn(Guest { house, stop: stopped, place }.serve(near));
    Line { far, asked, stop }
}

/// Says what it is told, at once or, at `/later`, when it is asked to.
#[derive(Clone)]
struct App(mpsc::UnboundedSender<oneshot::Sender<Response<Body>>>);

impl Service<Request<Incoming>> for App {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(handle(request, self.0.clone()))
    }
}

async fn handle(
    request: Request<Incoming>,
    asking: mpsc::UnboundedSender<oneshot::Sender<Response<Body>>>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if head.uri.path() != "/later" {
        return Ok(Response::new(Body::from(body)).into());
    }
    let (answer, answered) = oneshot::channel();
    asking.send(answer).unwrap();
    Ok(Answer::Later(Box::pin(async { answered.await.unwrap() })))
}

impl Line {
    async fn say(&mut self, text: &str) {
        self.far.write_all(text.as_bytes()).await.unwrap();
    }

    async fn answer(&mut self, text: &'static str) {
        let asked = self.asked.recv().await.unwrap();
        asked.send(Response::new(Body::from(text))).unwrap();
    }

    /// What is said until the connection ends.
    async fn heard(&mut self) -> String {
        let mut heard = String::new();
        self.far.read_to_string(&mut heard).await.unwrap();
        heard
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const LAST: &str = "POST /now HTTP/1.1\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast";

/// The statuses and bodies of responses.
fn responses(text: &str) -> Vec<(&str, &str)> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let (body, next) = after.split_at(length.unwrap().parse().unwrap());
        found.push((head.lines().next().unwrap(), body));
        rest = next;
    }
    assert_eq!(rest, "");
    found
}

#[tokio::test]
async fn a_late_response_stands_between_its_neighbours() {
    let mut line = open(65536).await;
    let chunked = "POST /later HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let requests = [&post("/now", "first"), &post("/later", "x"), chunked, &post("/now", "third")];
    line.say(&requests.concat()).await;
    line.say(LAST).await;
    line.answer("second").await;
    line.answer("chunked").await;
    let heard = line.heard().await;
    let bodies: Vec<_> = responses(&heard).iter().map(|(_, body)| *body).collect();
    assert_eq!(bodies, ["first", "second", "chunked", "third", "last"]);
}

#[tokio::test]
async fn what_is_said_while_a_response_is_late_is_heard_after_it() {
    let mut line = open(65536).await;
    line.say(&post("/later", "")).await;
    let asked = line.asked.recv().await.unwrap();
    let long = "y".repeat(5000);
    line.say(&post("/now", &long)).await;
    line.say(LAST).await;
    asked.send(Response::new(Body::from("late"))).unwrap();
    let heard = line.heard().await;
    let bodies: Vec<_> = responses(&heard).iter().map(|(_, body)| *body).collect();
    assert_eq!(bodies, ["late", &long, "last"]);
}

#[tokio::test]
async fn what_is_not_written_yet_is_not_lost() {
    let mut line = open(64).await;
    let long = "z".repeat(5000);
    let requests = [post("/now", &long), post("/later", "x"), LAST.to_owned()].concat();
    let (mut reader, mut writer) = tokio::io::split(line.far);
    let writing = tokio::spawn(async move { writer.write_all(requests.as_bytes()).await });
    let answering = tokio::spawn(async move {
        let asked = line.asked.recv().await.unwrap();
        asked.send(Response::new(Body::from("late"))).unwrap();
        line.stop
    });
    let mut heard = String::new();
    reader.read_to_string(&mut heard).await.unwrap();
    writing.await.unwrap().unwrap();
    answering.await.unwrap();
    let bodies: Vec<_> = responses(&heard).iter().map(|(_, body)| *body).collect();
    assert_eq!(bodies, [&long, "late", "last"]);
}

#[tokio::test]
async fn a_late_response_has_the_form_that_was_asked_for() {
    for (request, status) in [
        ("GET /later HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"),
        ("GET /later HTTP/1.1\r\nConnection: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK"),
    ] {
        let mut line = open(65536).await;
        line.say(request).await;
        line.answer("late").await;
        assert_eq!(responses(&line.heard().await), [(status, "late")], "{request}");
    }
}

#[tokio::test]
async fn who_leaves_is_not_waited_for() {
    let mut line = open(65536).await;
    line.say(&post("/later", "x")).await;
    let mut asked = line.asked.recv().await.unwrap();
    drop(line.far);
    asked.closed().await;
}

#[tokio::test]
async fn a_stop_waits_for_what_is_late_and_for_nothing_else() {
    let mut line = open(65536).await;
    line.say(&post("/later", "x")).await;
    let asked = line.asked.recv().await.unwrap();
    line.stop.send(true).unwrap();
    asked.send(Response::new(Body::from("late"))).unwrap();
    let heard = line.heard().await;
    assert!(heard.contains("connection: close\r\n"), "{heard}");
    assert_eq!(responses(&heard), [("HTTP/1.1 200 OK", "late")]);
}
