//! What the runner tells a program of the benchmark, and what the program tells it.

use std::env;
use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::str::FromStr;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// One setting of the run.
pub(crate) fn text(name: &str) -> Outcome<String> {
    env::var(name).map_err(|_| format!("{name} is not set: start this through `make bench`").into())
}

/// One setting that is no text.
pub(crate) fn value<T: FromStr>(name: &str) -> Outcome<T> {
    let text = text(name)?;
    text.parse().map_err(|_| format!("{name} is {text:?}, which is no number").into())
}

/// Tells the runner something in one line.
pub(crate) fn say(line: &str) -> Outcome {
    println!("{line}");
    Ok(io::stdout().flush()?)
}

/// Waits for the runner's next line; false: there is none any more.
pub(crate) fn wait_for_runner() -> Outcome<bool> {
    Ok(io::stdin().lock().read_line(&mut String::new())? > 0)
}
