//! What a field holds, and how it is written on the wire: US dates by default, ISO on request, numbers as
//! JSON numbers, nothing as `""`.
//!
//! Facts: sheet section 10. `MM/DD/YYYY`, `HH:MM:SS`, `MM/DD/YYYY HH:MM:SS` without zone or fraction [DOC/SRC];
//! `dateformats` 0, 1, 2 [DOC]; an ISO time stamp is read with `T` and written with a space [LIVE]; numbers come as
//! JSON numbers, a number field with other content as a string, nothing as `""` [CAP/SRC]; times may pass 24 h [DOC].
//! That two-digit years and fractions of a second are refused is ours [GEN].

use jiff::civil::{Date, DateTime, Time};
use serde_json::{Number, Value as Json};
use std::cmp::Ordering;

/// The result type of a field, as the layout metadata names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultType {
    Text,
    Number,
    Date,
    Time,
    TimeStamp,
}

impl ResultType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Date => "date",
            Self::Time => "time",
            Self::TimeStamp => "timeStamp",
        }
    }

    /// The code for a literal that this type cannot read.
    pub(super) fn literal_error(self) -> u32 {
        match self {
            Self::Text | Self::Date | Self::TimeStamp => 500,
            Self::Time => 501,
            Self::Number => 502,
        }
    }
}

/// How a file's own locale writes dates (`dateformats` 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DateOrder {
    #[default]
    MonthDayYear,
    DayMonthYear,
    YearMonthDay,
}

/// The way dates are written in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DateFormat {
    Slashes(DateOrder),
    Iso,
}

impl DateFormat {
    pub(super) const US: Self = Self::Slashes(DateOrder::MonthDayYear);
}

/// The content of one field of one record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Empty,
    Text(String),
    /// Shortest decimal form: no leading zeros, no trailing zeros after the point, no exponent in the usual range.
    Number(String),
    Date(Date),
    /// Seconds; may exceed a day.
    Time(i64),
    Stamp(DateTime),
}

/// What values are compared, sorted and indexed by. Empty sorts first [GEN].
#[derive(Debug, Clone)]
pub(super) enum Key {
    Empty,
    Number(f64),
    Span(i64),
    Stamp(DateTime),
    Text(String),
}

impl Key {
    fn rank(&self) -> u8 {
        match self {
            Self::Empty => 0,
            Self::Number(_) => 1,
            Self::Span(_) => 2,
            Self::Stamp(_) => 3,
            Self::Text(_) => 4,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Span(a), Self::Span(b)) => a.cmp(b),
            (Self::Stamp(a), Self::Stamp(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Value {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn key(&self) -> Key {
        match self {
            Self::Empty => Key::Empty,
            Self::Text(text) => Key::Text(fold(text)),
            Self::Number(digits) => Key::Number(digits.parse().unwrap_or(f64::NAN)),
            Self::Date(date) => Key::Stamp(date.at(0, 0, 0, 0)),
            Self::Time(seconds) => Key::Span(*seconds),
            Self::Stamp(stamp) => Key::Stamp(*stamp),
        }
    }

    /// Reads what a person or a request put in. `None`: not a literal of this type.
    /// A number field without strict validation keeps other text as it is [CAP].
    pub(super) fn read(text: &str, result: ResultType, format: DateFormat) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Empty);
        }
        match result {
            ResultType::Text => Some(Self::Text(text.to_owned())),
            ResultType::Number => Some(match decimal(text.trim()) {
                Some(digits) => Self::Number(digits),
                None => Self::Text(text.to_owned()),
            }),
            ResultType::Date => read_date(text, format).map(Self::Date),
            ResultType::Time => read_time(text).map(Self::Time),
            ResultType::TimeStamp => read_stamp(text, format).map(Self::Stamp),
        }
    }

    pub(super) fn text(&self, format: DateFormat) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) | Self::Number(text) => text.clone(),
            Self::Date(date) => write_date(*date, format),
            Self::Time(seconds) => write_time(*seconds),
            Self::Stamp(stamp) => {
                let between = if format == DateFormat::Iso { 'T' } else { ' ' };
                let time = stamp.time();
                let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
                format!("{}{between}{}", write_date(stamp.date(), format), write_time(seconds))
            }
        }
    }

    pub(super) fn json(&self, format: DateFormat) -> Json {
        match self {
            Self::Number(digits) => match digits.parse::<Number>() {
                Ok(number) => Json::Number(number),
                Err(_) => Json::String(digits.clone()),
            },
            other => Json::String(other.text(format)),
        }
    }
}

/// Comparison ignores case. Which accents are equal depends on the index language of a field [GEN]; here none are.
pub(super) fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// The shortest plain decimal form of a number, or `None` if it is none.
pub(super) fn decimal(text: &str) -> Option<String> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 400)?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut digits = format!("{whole}{fraction}");
    let mut point = whole.len() as i64 + i64::from(exponent);
    while point < 0 {
        digits.insert(0, '0');
        point += 1;
    }
    while digits.len() < point as usize {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point as usize);
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let mut out = String::new();
    if negative && !(whole.is_empty() && fraction.is_empty()) {
        out.push('-');
    }
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Some(out)
}

pub(super) fn read_date(text: &str, format: DateFormat) -> Option<Date> {
    let separator = if format == DateFormat::Iso { '-' } else { '/' };
    let mut parts = text.split(separator);
    let parts = [parts.next()?, parts.next()?, parts.next().filter(|_| parts.next().is_none())?];
    if parts.iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let [a, b, c] = parts;
    let (year, month, day) = match format {
        DateFormat::Iso | DateFormat::Slashes(DateOrder::YearMonthDay) => (a, b, c),
        DateFormat::Slashes(DateOrder::MonthDayYear) => (c, a, b),
        DateFormat::Slashes(DateOrder::DayMonthYear) => (c, b, a),
    };
    let short = |part: &str| (1..=2).contains(&part.len()) && (format != DateFormat::Iso || part.len() == 2);
    if year.len() != 4 || !short(month) || !short(day) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

pub(super) fn read_time(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let parts: Vec<&str> = rest.split(':').collect();
    if !(2..=3).contains(&parts.len())
        || parts.iter().any(|part| part.is_empty() || part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()))
    {
        return None;
    }
    let mut numbers = parts.iter().map(|part| part.parse::<i64>());
    let hours = numbers.next()?.ok()?;
    let minutes = numbers.next()?.ok().filter(|m| *m < 60)?;
    let seconds = numbers.next().map_or(Some(0), |s| s.ok().filter(|s| *s < 60))?;
    Some(sign * (hours * 3600 + minutes * 60 + seconds))
}

pub(super) fn read_stamp(text: &str, format: DateFormat) -> Option<DateTime> {
    let (date, time) = text.split_once(' ')?;
    let seconds = read_time(time).filter(|s| (0..86_400).contains(s))?;
    let time = Time::new((seconds / 3600) as i8, (seconds / 60 % 60) as i8, (seconds % 60) as i8, 0).ok()?;
    Some(DateTime::from_parts(read_date(date, format)?, time))
}

fn write_date(date: Date, format: DateFormat) -> String {
    let (year, month, day) = (date.year(), date.month(), date.day());
    match format {
        DateFormat::Iso => format!("{year:04}-{month:02}-{day:02}"),
        DateFormat::Slashes(DateOrder::MonthDayYear) => format!("{month:02}/{day:02}/{year:04}"),
        DateFormat::Slashes(DateOrder::DayMonthYear) => format!("{day:02}/{month:02}/{year:04}"),
        DateFormat::Slashes(DateOrder::YearMonthDay) => format!("{year:04}/{month:02}/{day:02}"),
    }
}

fn write_time(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let s = seconds.abs();
    format!("{sign}{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_their_shortest_form() {
        for (given, kept) in
            [("007", "7"), ("1.50", "1.5"), (".5", "0.5"), ("-0", "0"), ("1e3", "1000"), ("12.5e-2", "0.125")]
        {
            assert_eq!(decimal(given).as_deref(), Some(kept));
        }
        for none in ["", ".", "1,5", "abc", "1e", "--1"] {
            assert_eq!(decimal(none), None, "{none}");
        }
    }

    #[test]
    fn stamps_are_read_with_a_space_and_written_as_asked() {
        let us = Value::read("3/4/2024 9:05:06", ResultType::TimeStamp, DateFormat::US).expect("a US stamp");
        assert_eq!(us.text(DateFormat::US), "03/04/2024 09:05:06");
        assert_eq!(us.text(DateFormat::Iso), "2024-03-04T09:05:06");
        assert_eq!(Value::read("2024-03-04 09:05:06", ResultType::TimeStamp, DateFormat::Iso), Some(us));
        assert_eq!(Value::read("2024-03-04T09:05:06", ResultType::TimeStamp, DateFormat::Iso), None);
        assert_eq!(Value::read("2024-03-04", ResultType::Date, DateFormat::US), None);
        assert_eq!(read_time("37:30:00"), Some(135_000));
    }
}
