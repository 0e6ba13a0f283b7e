//! Waiting for conditions.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// For what must happen within seconds: far more than it takes, since other work shares the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EACH: Duration = Duration::from_millis(25);

/// Looks until `look` gives a value, and panics with the last obstacle when it has not within `limit`.
pub async fn eventually<T, E, F>(what: impl Display, limit: Duration, mut look: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let by = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(obstacle) if Instant::now() >= by => {
                panic!("{what}: not within {} s: {obstacle}", limit.as_secs())
            }
            Err(_) => sleep(LOOK_EACH).await,
        }
    }
}

/// Looks until `look` is true.
pub async fn until(what: impl Display, limit: Duration, mut look: impl FnMut() -> bool) {
    eventually(what, limit, || std::future::ready(if look() { Ok(()) } else { Err("still not so") })).await;
}

/// Looks for the whole time and panics at the first obstacle: for what must *not* happen.
pub async fn throughout<E, F>(what: impl Display, time: Duration, mut look: impl FnMut() -> F)
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let end = Instant::now() + time;
    let began = Instant::now();
    while Instant::now() < end {
        if let Err(obstacle) = look().await {
            panic!("{what}: not any more after {} ms: {obstacle}", began.elapsed().as_millis());
        }
        sleep(LOOK_EACH).await;
    }
}
