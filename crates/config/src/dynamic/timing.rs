//! The timing rule: `loop_wait + 2*retry_timeout <= ttl`, and the floors below it.

use std::time::Duration;

use super::Floors;

/// The three settings that depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    pub ttl: Duration,
    pub loop_wait: Duration,
    pub retry_timeout: Duration,
}

/// Raises what is below its floor, then shortens `loop_wait` and, if that is not enough, `retry_timeout`. Every node gets the
/// same result from the same document; one message per adjustment.
pub(super) fn adjust(written: Timings, floors: Floors, messages: &mut Vec<String>) -> Timings {
    let mut raise = |name: &str, value: Duration, floor: Duration| {
        if value < floor {
            messages.push(format!(
                "{name}={} can't be smaller than {}, adjusting...",
                seconds(value),
                seconds(floor)
            ));
        }
        value.max(floor)
    };
    // A lease shorter than the floors allow for leaves a third of it to each part.
    let third = round_down(written.ttl.max(floors.ttl) / 3, floors.resolution);
    let (shortest, shortest_retry) = (floors.loop_wait.min(third), floors.retry_timeout.min(third));
    let loop_wait = raise("loop_wait", written.loop_wait, shortest);
    let retry_timeout = raise("retry_timeout", written.retry_timeout, shortest_retry);
    let ttl = raise("ttl", written.ttl, floors.ttl);
    let rule = "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where";
    if shortest + 2 * retry_timeout > ttl {
        let shortened = round_down((ttl - shortest) / 2, floors.resolution);
        messages.push(format!(
            "{rule} ttl={}. Adjusting loop_wait from {} to {} and retry_timeout from {} to {}",
            seconds(ttl),
            seconds(loop_wait),
            seconds(shortest),
            seconds(retry_timeout),
            seconds(shortened)
        ));
        return Timings { ttl, loop_wait: shortest, retry_timeout: shortened };
    }
    if loop_wait + 2 * retry_timeout > ttl {
        let shortened = ttl - 2 * retry_timeout;
        messages.push(format!(
            "{rule} ttl={} and retry_timeout={}. Adjusting loop_wait from {} to {}",
            seconds(ttl),
            seconds(retry_timeout),
            seconds(loop_wait),
            seconds(shortened)
        ));
        return Timings { ttl, loop_wait: shortened, retry_timeout };
    }
    Timings { ttl, loop_wait, retry_timeout }
}

fn round_down(value: Duration, resolution: Duration) -> Duration {
    let (value, resolution) = (value.as_nanos(), resolution.as_nanos().max(1));
    Duration::from_nanos(u64::try_from(value - value % resolution).unwrap_or(u64::MAX))
}

/// Whole seconds as Patroni prints them, fractions where there are any.
fn seconds(value: Duration) -> String {
    if value.subsec_nanos() == 0 { value.as_secs().to_string() } else { format!("{}", value.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(ttl: u64, loop_wait: u64, retry_timeout: u64, floors: Floors) -> ([u128; 3], Vec<String>) {
        let mut messages = Vec::new();
        let secs = Duration::from_secs;
        let written =
            Timings { ttl: secs(ttl), loop_wait: secs(loop_wait), retry_timeout: secs(retry_timeout) };
        let timings = adjust(written, floors, &mut messages);
        let millis = [timings.ttl, timings.loop_wait, timings.retry_timeout].map(|value| value.as_millis());
        (millis, messages)
    }

    #[test]
    fn patronis_rule_gives_patronis_numbers() {
        for (case, (ttl, loop_wait, retry), expected, message) in [
            ("the defaults fit", (30, 10, 10), [30, 10, 10], None),
            (
                "short values are raised",
                (5, 0, 2),
                [20, 1, 3],
                Some("loop_wait=0 can't be smaller than 1, adjusting..."),
            ),
            (
                "retry_timeout is too long for any loop_wait",
                (20, 10, 10),
                [20, 1, 9],
                Some(
                    "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl=20. Adjusting loop_wait from 10 to 1 and retry_timeout from 10 to 9",
                ),
            ),
            (
                "a shorter loop_wait is enough",
                (25, 10, 10),
                [25, 5, 10],
                Some(
                    "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl=25 and retry_timeout=10. Adjusting loop_wait from 10 to 5",
                ),
            ),
        ] {
            let (timings, messages) = adjusted(ttl, loop_wait, retry, Floors::patroni());
            assert_eq!(timings, expected.map(|seconds: u128| seconds * 1000), "{case}");
            assert_eq!(messages.first().map(String::as_str), message, "{case}");
        }
    }

    #[test]
    fn our_floors_allow_short_leases_and_keep_the_rule() {
        let one = Floors::bellwether(Duration::from_secs(1));
        assert_eq!(adjusted(5, 1, 2, one), ([5000, 1000, 2000], vec![]));
        assert_eq!(adjusted(20, 10, 10, one).0, [20_000, 1000, 9500]);
        assert_eq!(adjusted(1, 1, 1, one).0, [1000, 333, 333]);
        for ttl in 0..60 {
            for loop_wait in 0..12 {
                for retry in 0..12 {
                    for floors in [one, Floors::bellwether(Duration::from_secs(2)), Floors::patroni()] {
                        let ([ttl, loop_wait, retry], _) = adjusted(ttl, loop_wait, retry, floors);
                        assert!(loop_wait + 2 * retry <= ttl, "{ttl} {loop_wait} {retry}");
                        assert!(loop_wait > 0 && retry > 0, "{ttl} {loop_wait} {retry}");
                    }
                }
            }
        }
    }
}
