//! Values on the wire: FileMaker's way of writing text, numbers, dates and time stamps (Data API guide, "Work with
//! records"; fact sheet 10). Everything that FileMaker's types allow and ours do not is unreadable, never a guess.

use engine::{
    mapping::{Form, canonical},
    row::{FieldType, Value},
};
use jiff::civil::{Date, DateTime, Time};
use serde_json::{Number, Value as Json};

/// Digits that every JSON parser keeps, `f64` ones too (IEEE 754: 15 decimal digits survive).
const SAFE_DIGITS: usize = 15;

pub(super) fn to_json(value: &Value) -> Json {
    match value {
        // There is no null: an empty text clears a field of any type.
        Value::Blank => Json::from(""),
        Value::Text(text) => Json::from(text.replace("\r\n", "\r").replace('\n', "\r")),
        Value::Number(digits) => number_to_json(digits),
        Value::Date(date) => Json::from(us_date(*date)),
        Value::DateTime(at) => Json::from(us_date_time(*at)),
        Value::Flag(flag) => Json::from(u8::from(*flag)),
    }
}

/// As a JSON number, which means the same in every locale; a long one as text, so that no parser on the way rounds it.
fn number_to_json(digits: &str) -> Json {
    let count = digits.chars().filter(char::is_ascii_digit).count();
    match digits.parse::<Number>() {
        Ok(number) if count <= SAFE_DIGITS => Json::Number(number),
        _ => Json::from(digits),
    }
}

pub(super) fn us_date_time(at: DateTime) -> String {
    format!("{} {:02}:{:02}:{:02}", us_date(at.date()), at.hour(), at.minute(), at.second())
}

pub(super) fn us_date(date: Date) -> String {
    format!("{:02}/{:02}/{:04}", date.month(), date.day(), date.year())
}

/// `None`: the content is not of this type.
pub(super) fn from_json(kind: FieldType, json: &Json) -> Option<Value> {
    let text = match json {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.as_str().to_owned(),
        // Not what FileMaker sends; clients agree on what they would mean.
        Json::Null => String::new(),
        Json::Bool(flag) => u8::from(*flag).to_string(),
        Json::Array(_) | Json::Object(_) => return None,
    };
    if text.is_empty() {
        return Some(Value::Blank);
    }
    if kind == FieldType::Text {
        return Some(Value::Text(text.replace("\r\n", "\n").replace('\r', "\n")));
    }
    let text = text.trim();
    match kind {
        _ if text.is_empty() => Some(Value::Blank),
        FieldType::Text => None,
        FieldType::Number => plain_decimal(text).map(Value::Number),
        FieldType::Date => read_date(text).map(Value::Date),
        FieldType::DateTime => read_date_time(text).map(Value::DateTime),
        FieldType::Flag => match plain_decimal(text)?.as_str() {
            "1" => Some(Value::Flag(true)),
            "0" => Some(Value::Flag(false)),
            _ => None,
        },
    }
}

/// The engine's one form of a number: plain decimal, with all digits.
fn plain_decimal(text: &str) -> Option<String> {
    match canonical(FieldType::Number, Form::Plain, Value::Number(text.to_owned())) {
        Value::Number(digits) => Some(digits),
        _ => None,
    }
}

/// `MM/DD/YYYY`, or ISO 8601 (a server that is asked for it, or set up so). A year has four digits: two would be a guess.
fn read_date(text: &str) -> Option<Date> {
    let (year, month, day) = match text.split_once('/') {
        Some((month, rest)) => {
            let (day, year) = rest.split_once('/')?;
            (year, month, day)
        }
        None => {
            let (year, rest) = text.split_once('-')?;
            let (month, day) = rest.split_once('-')?;
            (year, month, day)
        }
    };
    let number = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        let fits = lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if fits { part.parse::<i16>().ok() } else { None }
    };
    let month = i8::try_from(number(month, 1..=2)?).ok()?;
    let day = i8::try_from(number(day, 1..=2)?).ok()?;
    Date::new(number(year, 4..=4)?, month, day).ok()
}

/// A date and a time of day to the second; a fraction of a second is dropped.
fn read_date_time(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut parts = time.splitn(3, ':').map(|part| {
        let fits = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if fits { part.parse::<i8>().ok() } else { None }
    });
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    Some(read_date(date)?.to_datetime(Time::new(hour, minute, second, 0).ok()?))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Json {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn text_is_read_with_our_line_ends_and_keeps_its_zeros() {
        for (wire, value) in [
            (json!("Testpatient"), Value::Text("Testpatient".into())),
            (json!("a\rb\r\nc"), Value::Text("a\nb\nc".into())),
            (json!(" "), Value::Text(" ".into())),
            (json!("00123"), Value::Text("00123".into())),
            (parsed("1.50"), Value::Text("1.50".into())),
            (parsed("63670994415764123456789"), Value::Text("63670994415764123456789".into())),
            (json!(""), Value::Blank),
            (json!(null), Value::Blank),
        ] {
            assert_eq!(from_json(FieldType::Text, &wire).map(|v| v.canonical()), Some(value.canonical()), "{wire}");
            assert_eq!(from_json(FieldType::Text, &wire), Some(value));
        }
    }

    #[test]
    fn numbers_keep_all_digits_and_lose_what_means_nothing() {
        for (wire, plain) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("12.50", "12.5"),
            ("007", "7"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1.25E-3", "0.00125"),
            ("-12.5e1", "-125"),
            ("123456789012345678901234567890.0625", "123456789012345678901234567890.0625"),
        ] {
            assert_eq!(plain_decimal(wire).as_deref(), Some(plain), "{wire}");
        }
        for wire in ["", "-", ".", "12,5", "1 000", "abc", "1e", "1e999", "0x10", "1.2.3", "NaN", "--1"] {
            assert_eq!(plain_decimal(wire), None, "{wire}");
        }
    }

    #[test]
    fn dates_are_read_in_both_orders_and_written_in_one() {
        let date = Date::constant(1969, 7, 20);
        for wire in ["07/20/1969", "7/20/1969", "1969-07-20"] {
            assert_eq!(from_json(FieldType::Date, &json!(wire)), Some(Value::Date(date)), "{wire}");
        }
        assert_eq!(to_json(&Value::Date(date)), json!("07/20/1969"));
        for wire in ["20/07/1969", "07/20/69", "02/30/2000", "07-20-1969", "1969", "07/20/1969 10:00:00", "?"] {
            assert_eq!(from_json(FieldType::Date, &json!(wire)), None, "{wire}");
        }
        let at = date.at(2, 56, 15, 0);
        for wire in ["07/20/1969 02:56:15", "1969-07-20T02:56:15", "1969-07-20 2:56:15", "07/20/1969 02:56:15.25"] {
            assert_eq!(from_json(FieldType::DateTime, &json!(wire)), Some(Value::DateTime(at)), "{wire}");
        }
        assert_eq!(to_json(&Value::DateTime(at)), json!("07/20/1969 02:56:15"));
        for wire in ["07/20/1969", "07/20/1969 25:00:00", "07/20/1969 02:56 PM", "07/20/1969 02", "02:56:15"] {
            assert_eq!(from_json(FieldType::DateTime, &json!(wire)), None, "{wire}");
        }
    }

    #[test]
    fn a_flag_is_one_or_nought_and_nothing_else() {
        for (wire, flag) in [(json!(1), true), (json!("0"), false), (json!(true), true), (parsed("1.0"), true)] {
            assert_eq!(from_json(FieldType::Flag, &wire), Some(Value::Flag(flag)), "{wire}");
        }
        for wire in [json!(2), json!("Yes"), json!([1])] {
            assert_eq!(from_json(FieldType::Flag, &wire), None, "{wire}");
        }
    }

    #[test]
    fn a_long_number_goes_as_text_and_a_short_one_as_a_number() {
        assert_eq!(to_json(&Value::Number("12.5".into())), json!(12.5));
        assert_eq!(to_json(&Value::Number("-7".into())), json!(-7));
        let long = "123456789012345678901234567890.5";
        assert_eq!(to_json(&Value::Number(long.into())), json!(long));
    }

    /// Whatever we write, we read as the same.
    #[test]
    fn values_survive_the_way_there_and_back() {
        let mut rng = StdRng::seed_from_u64(2);
        for _ in 0..20_000 {
            let date =
                Date::new(rng.random_range(1..=4000), rng.random_range(1..=12), rng.random_range(1..=28)).unwrap();
            let at = date.at(rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60), 0);
            let digits = format!("{}.{}", rng.random::<i64>(), rng.random_range(0..1_000_000));
            let number = plain_decimal(&digits).unwrap();
            assert_eq!(plain_decimal(&number).as_deref(), Some(number.as_str()), "canonical is canonical");
            let text: String =
                (0..rng.random_range(1..9)).map(|_| ['a', '\n', '0', ' ', 'é'][rng.random_range(0..5)]).collect();
            for (kind, value) in [
                (FieldType::Date, Value::Date(date)),
                (FieldType::DateTime, Value::DateTime(at)),
                (FieldType::Number, Value::Number(number)),
                (FieldType::Text, Value::Text(text)),
                (FieldType::Flag, Value::Flag(rng.random())),
            ] {
                let wire = parsed(&to_json(&value).to_string());
                assert!(from_json(kind, &wire) == Some(value), "{wire}");
            }
        }
    }
}
