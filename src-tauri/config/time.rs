//! Lengths of time as the configuration writes them: a whole number and its unit, such as `30s`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Time(pub(super) Duration);

/// Largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number and its unit (ms, s, min, h or d), such as \"30s\"")]
pub(super) struct NotATime;

impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let number = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(number);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or(NotATime)?;
        let number: u64 = number.parse().map_err(|_| NotATime)?;
        number.checked_mul(*length).map(|length| Self(Duration::from_millis(length))).ok_or(NotATime)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.as_millis();
        let (unit, size) = UNITS
            .into_iter()
            .find(|(_, size)| length > 0 && length.is_multiple_of(u128::from(*size)))
            .unwrap_or(("s", 1000));
        write!(f, "{}{unit}", length / u128::from(size))
    }
}

impl TryFrom<String> for Time {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|min|h|d)$", "x-form": "time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_it_is_written() {
        for text in ["250ms", "30s", "90s", "5min", "2h", "7d", "0s"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        assert_eq!("60 s".parse::<Time>().unwrap().to_string(), "1min");
        for text in ["", "30", "s", "30m", "1.5s", "-1s", "30sec", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(text.parse::<Time>(), Err(NotATime), "{text}");
        }
    }
}
