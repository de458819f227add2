//! `simulate [RUNS [SEED]]`: so many scenarios from this seed on, or the trace of one with `trace SEED`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use appxmpp_simulator::{RARE_THINGS, Report, rare_things, run};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut numbers = Vec::new();
    let mut traced = false;
    for arg in &mut args {
        match arg.parse::<u64>() {
            Ok(number) => numbers.push(number),
            Err(_) if arg == "trace" => traced = true,
            Err(_) => {
                eprintln!("simulate: {arg:?} is no number; give RUNS and SEED, or trace SEED");
                return ExitCode::from(2);
            }
        }
    }
    if traced {
        let report = run(numbers.first().copied().unwrap_or_default(), true);
        return tell(&report);
    }
    let runs = numbers.first().copied().unwrap_or(10_000);
    let first = numbers.get(1).copied().unwrap_or(1);
    simulate(runs, first)
}

/// Prints a trace, and the violation if there is one.
fn tell(report: &Report) -> ExitCode {
    for line in &report.trace {
        // A long body says nothing.
        println!("{}", line.replace(&"x".repeat(1200), "…"));
    }
    println!("seed {}: {} steps, hash {:016x}", report.seed, report.steps, report.hash);
    match &report.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("VIOLATION with seed {}: {violation}", report.seed);
            ExitCode::FAILURE
        }
    }
}

/// The sum of what was run.
#[derive(Default)]
struct Total {
    runs: AtomicU64,
    failed: AtomicU64,
    steps: AtomicU64,
    messages: AtomicU64,
    seen: [AtomicU64; RARE_THINGS],
    worst: Mutex<Option<u64>>,
}

fn simulate(runs: u64, first: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = number_of("THREADS").map_or(cores, |it| it as usize);
    // Of eight kinds of scenarios one: STEP=8.
    let step = number_of("STEP").unwrap_or(1);
    let (next, total, started) = (AtomicU64::new(0), Total::default(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&next, runs, (first, step), &total, started));
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let done = get(&total.runs);
    eprintln!();
    println!(
        "{done} scenarios from seed {first} on in {seconds:.1} s ({:.0} a minute): {} steps, {} messages",
        done as f64 * 60.0 / seconds,
        get(&total.steps),
        get(&total.messages),
    );
    let seen = rare_things().into_iter().zip(&total.seen);
    let seen: Vec<_> = seen.map(|(name, number)| format!("{} {name}", get(number))).collect();
    println!("{}", seen.join(", "));
    let failed = get(&total.failed);
    // `make test` counts by this line.
    match failed {
        0 => println!("{done} scenarios passed"),
        _ => println!("{} scenarios passed; {failed} failed", done - failed),
    }
    let worst = *total.worst.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match worst {
        None => ExitCode::SUCCESS,
        Some(seed) => tell(&run(seed, true)),
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn work(next: &AtomicU64, runs: u64, (first, step): (u64, u64), total: &Total, started: Instant) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= runs {
            return;
        }
        let report = run(first.wrapping_add(number.wrapping_mul(step)), false);
        total.runs.fetch_add(1, Ordering::Relaxed);
        total.steps.fetch_add(report.steps, Ordering::Relaxed);
        total.messages.fetch_add(report.messages as u64, Ordering::Relaxed);
        for (sum, number) in total.seen.iter().zip(report.seen) {
            sum.fetch_add(number, Ordering::Relaxed);
        }
        if report.violation.is_some() {
            total.failed.fetch_add(1, Ordering::Relaxed);
            // No thread begins another scenario; the smallest seed that failed is told.
            next.fetch_max(runs, Ordering::Relaxed);
            let mut worst = total.worst.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *worst = Some(worst.map_or(report.seed, |seed| seed.min(report.seed)));
        }
        if number % 5000 == 4999 {
            let minutes = started.elapsed().as_secs_f64() / 60.0;
            eprint!("\r{} of {runs} scenarios, {:.1} min ", number + 1, minutes);
            let _ = std::io::stderr().flush();
        }
    }
}
