//! What the environment says. Read where it is used: each host has its own, and only the archive's host has a file.

use std::path::PathBuf;
use std::time::Duration;

/// `POLL_LISTEN`: where HTTP is served unless the agent says otherwise.
#[must_use]
pub fn listen() -> String {
    std::env::var("POLL_LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned())
}

/// `POLL_ARCHIVE`: the archive's file; else `poll.sqlite` in the agent's data directory (`ODEON_DATA`), else here.
#[must_use]
pub fn archive() -> PathBuf {
    std::env::var_os("POLL_ARCHIVE").map_or_else(
        || PathBuf::from(std::env::var_os("ODEON_DATA").unwrap_or_default()).join("poll.sqlite"),
        PathBuf::from,
    )
}

/// `POLL_HEARTBEAT`: how often the cast looks for quiet questions, as `5s` or `20ms`.
#[must_use]
pub fn heartbeat() -> Duration {
    read("POLL_HEARTBEAT", duration, Duration::from_secs(5))
}

/// `POLL_KEEP`: how much of a question's heat a heartbeat leaves, from 0 to 1.
#[must_use]
pub fn keep() -> f64 {
    read("POLL_KEEP", |text| text.parse().ok().filter(|keep| (0.0..1.0).contains(keep)), 0.9)
}

/// What a variable says, if it is set and makes sense.
fn read<T>(variable: &str, parse: impl Fn(&str) -> Option<T>, default: T) -> T {
    let Ok(text) = std::env::var(variable) else { return default };
    parse(&text).unwrap_or_else(|| {
        tracing::warn!(variable, text, "makes no sense; the default holds");
        default
    })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    unit.checked_mul(number.parse().ok()?).filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        assert_eq!(duration("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        for nonsense in ["", "5", "s", "5 s", "-1s", "0s", "99999999999999999999s", "1d"] {
            assert_eq!(duration(nonsense), None, "{nonsense}");
        }
    }
}
