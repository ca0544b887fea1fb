//! Durations in Go's spelling.

use std::time::Duration;

use super::{Checked, Wrong};

/// The longest duration of any option.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

const UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration in the format of Go's `time.ParseDuration` (`300ms`, `1m30s`, `1.5h`), or a whole number of seconds. From
/// 0 to [`LONGEST`].
pub fn duration(text: &str) -> Checked<Duration> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let remedy = "write a duration such as 300ms, 2s or 1m30s, or a whole number of seconds";
    let nanoseconds = nanoseconds(digits).ok_or_else(|| Wrong::new("not a duration", remedy))?;
    if negative && nanoseconds > 0 {
        return Err(Wrong::new("a negative duration", remedy));
    }
    match u64::try_from(nanoseconds).map(Duration::from_nanos) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(Wrong::new("too long", "write a duration of at most 24h")),
    }
}

/// `None` if it is not a duration; huge numbers saturate.
fn nanoseconds(text: &str) -> Option<u128> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(integer(text).saturating_mul(1_000_000_000));
    }
    let mut rest = text;
    let mut total = 0_u128;
    loop {
        let (whole, after) = take_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => take_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        // More digits than these are below a nanosecond for every unit.
        let fraction = &fraction[..fraction.len().min(15)];
        let part = integer(fraction).saturating_mul(*unit) / 10_u128.pow(fraction.len() as u32);
        total = total.saturating_add(integer(whole).saturating_mul(*unit)).saturating_add(part);
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

fn take_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The number of the digits; 0 without digits, the largest number with too many.
fn integer(digits: &str) -> u128 {
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u128::MAX) }
}

/// A duration in the shortest exact form of Go.
pub fn spelled(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match (seconds, nanos) {
        (seconds, 0) => format!("{seconds}s"),
        (0, nanos) if nanos % 1_000_000 == 0 => format!("{}ms", nanos / 1_000_000),
        _ => format!("{duration:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_and_whole_seconds() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("2", 2_000_000_000),
            ("+2s", 2_000_000_000),
            ("300ms", 300_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1us", 1_000),
            ("1µs1μs", 2_000),
            ("1h0m0.000000001s", 3_600_000_000_001),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("24h", 86_400_000_000_000),
        ] {
            assert_eq!(duration(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in [
            "", " ", "s", ".", ".s", "1x", "1 s", "1s ", "1.5", "1s1", "--1s", "+", "1m-3s", "1S", "1e3s",
            "١s",
        ] {
            assert_eq!(duration(text).unwrap_err().wrong, "not a duration", "{text}");
        }
        assert_eq!(duration("-1s").unwrap_err().wrong, "a negative duration");
        assert_eq!(duration("-3").unwrap_err().wrong, "a negative duration");
        let digits = "9".repeat(60);
        for text in ["24h1ns", "86401", &digits, &format!("{digits}h"), "99999999999999999999h"] {
            assert_eq!(duration(text).unwrap_err().wrong, "too long", "{text}");
        }
    }

    #[test]
    fn spelling_gives_back_what_was_meant() {
        for text in ["0s", "2s", "300ms", "90s", "1.5s"] {
            assert_eq!(spelled(duration(text).unwrap()), text);
        }
    }
}
