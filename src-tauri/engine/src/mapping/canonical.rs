//! One form for each meaning. Values from the chart and values from FileMaker pass through the same functions, so that two
//! texts that mean the same compare equal, hash equal and cause no write. All of them are total, and idempotent.
//!
//! | type | form |
//! |---|---|
//! | text | Unicode NFC; lines end with `\n`; no white space at the end of a line or at either end; no other control characters but the tab; empty is blank |
//! | number | plain decimal without exponent, plus sign, leading or trailing zeros: `1.50` and `1.5` are one number. The chart keeps its own digits; only this form is compared and written to FileMaker |
//! | date | calendar day |
//! | date-time | clinic-local day and time, to the second |
//! | flag | yes or no; blank is neither |

use unicode_normalization::UnicodeNormalization;

use crate::row::{FieldType, Value};

/// What kind of text a field holds, where writers differ in punctuation only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Plain,
    /// North American numbers as `555-010-0199`, others as `+` and digits or digits alone. A text with anything but digits
    /// and the usual punctuation (an extension, a remark) stays as it is.
    Phone,
    /// Small letters. (The part before the @ could tell them apart; no mail system in use does.)
    Email,
    /// Capital letters, single spaces, and nine digits as `12345-6789`.
    PostalCode,
}

/// The canonical form of a value in a field of this type. A value that is not of the type stays what it is, in its own
/// canonical form: it then differs from every value that is.
pub fn canonical(r#type: FieldType, form: Form, value: Value) -> Value {
    match (r#type, value) {
        (FieldType::Text, Value::Text(content) | Value::Number(content)) => text(form, &content),
        (FieldType::Number, Value::Text(content) | Value::Number(content)) => match number(content.trim()) {
            Some(number) => Value::Number(number),
            None => text(Form::Plain, &content),
        },
        (FieldType::Flag, Value::Text(content) | Value::Number(content)) => match number(content.trim()).as_deref() {
            Some("1") => Value::Flag(true),
            Some("0") => Value::Flag(false),
            _ => text(Form::Plain, &content),
        },
        (_, Value::Text(content)) => text(Form::Plain, &content),
        (_, Value::Number(content)) => match number(content.trim()) {
            Some(number) => Value::Number(number),
            None => text(Form::Plain, &content),
        },
        (_, Value::DateTime(time)) => Value::DateTime(time.with().subsec_nanosecond(0).build().unwrap_or(time)),
        (_, value @ (Value::Blank | Value::Date(_) | Value::Flag(_))) => value,
    }
}

fn text(form: Form, content: &str) -> Value {
    let plain = plain(content);
    let formed = match form {
        Form::Plain => plain,
        Form::Phone => phone(&plain).unwrap_or(plain),
        Form::Email => plain.to_lowercase().nfc().collect(),
        Form::PostalCode => postal_code(&plain),
    };
    if formed.is_empty() { Value::Blank } else { Value::Text(formed) }
}

fn plain(content: &str) -> String {
    let lines = content.replace("\r\n", "\n").replace(['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'], "\n");
    // Composed only after the control characters are gone: one of them could stand between a letter and its accent.
    let composed: String = lines.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).nfc().collect();
    let trimmed: Vec<&str> = composed.split('\n').map(str::trim_end).collect();
    trimmed.join("\n").trim().to_owned()
}

fn phone(text: &str) -> Option<String> {
    let usual = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '+');
    let (plus, rest) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
    if !text.chars().all(usual) || rest.contains('+') {
        return None;
    }
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    let national = match digits.len() {
        10 if !plus => Some(digits.as_str()),
        11 => digits.strip_prefix('1'),
        _ => None,
    };
    match national {
        // Area codes begin with 2 to 9: what begins otherwise is another country's.
        Some(number) if number.starts_with(|c| matches!(c, '2'..='9')) => {
            Some(format!("{}-{}-{}", &number[..3], &number[3..6], &number[6..]))
        }
        _ if digits.is_empty() => None,
        _ if plus => Some(format!("+{digits}")),
        _ => Some(digits),
    }
}

fn postal_code(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let code: String = words.join(" ").to_uppercase().nfc().collect();
    if code.len() == 9 && code.bytes().all(|b| b.is_ascii_digit()) {
        format!("{}-{}", &code[..5], &code[5..])
    } else {
        code
    }
}

/// The longest number that is carried over; FileMaker's own limit is of this order (\[GEN\] unverified).
const MAX_DIGITS: usize = 400;

/// A decimal number's canonical form; `None` if the text is not one number, or is longer than 400 digits written out.
pub(super) fn number(text: &str) -> Option<String> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some("0".into());
    }
    // Where the point stands, counted from the first significant digit.
    let leading = digits.len() - significant.len();
    let point = exponent.checked_add_unsigned(whole.len() as u64)?.checked_sub_unsigned(leading as u64)?;
    if point.unsigned_abs() > MAX_DIGITS as u64 {
        return None;
    }
    let significant = significant.trim_end_matches('0');
    let places = point.unsigned_abs() as usize;
    let plain = if point <= 0 {
        format!("0.{}{significant}", "0".repeat(places))
    } else if significant.len() <= places {
        format!("{significant}{}", "0".repeat(places - significant.len()))
    } else {
        let (whole, fraction) = significant.split_at(places);
        format!("{whole}.{fraction}")
    };
    // Counted as written out, so that what passes once passes again.
    if plain.bytes().filter(u8::is_ascii_digit).count() > MAX_DIGITS {
        return None;
    }
    Some(if negative { format!("-{plain}") } else { plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formed(form: Form, content: &str) -> Value {
        canonical(FieldType::Text, form, Value::Text(content.into()))
    }

    #[test]
    fn equal_numbers_have_one_form() {
        for (written, expected) in [
            ("1.50", "1.5"),
            ("1.5", "1.5"),
            ("+1.5", "1.5"),
            ("0001.5", "1.5"),
            ("15e-1", "1.5"),
            ("0.15E1", "1.5"),
            ("1500", "1500"),
            ("1.5e3", "1500"),
            ("1e0", "1"),
            ("-0.0", "0"),
            ("0e99999999999", "0"),
            ("-2.50", "-2.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1E-7", "0.0000001"),
            ("0.10", "0.1"),
            ("100", "100"),
            ("63670994415764", "63670994415764"),
            ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ] {
            assert_eq!(number(written).as_deref(), Some(expected), "{written}");
        }
        for written in [
            "",
            "-",
            ".",
            "1,5",
            "1.2.3",
            "1e",
            "e5",
            "12kg",
            "0x1F",
            "NaN",
            "--1",
            "1e400",
            "1e-400",
            "1e99999999999999999999",
        ] {
            assert_eq!(number(written), None, "{written}");
        }
    }

    #[test]
    fn equal_texts_have_one_form() {
        for (written, expected) in [
            ("  SYNTHETIC \r\n note\t\r\rend \n", "SYNTHETIC\n note\n\nend"),
            ("Ame\u{301}lie", "Am\u{e9}lie"),
            ("e\u{0}\u{301}", "\u{e9}"),
            ("soft\u{b}return", "soft\nreturn"),
            ("a\tb", "a\tb"),
        ] {
            assert_eq!(formed(Form::Plain, written), Value::Text(expected.into()), "{written:?}");
        }
        for blank in ["", "  ", "\r\n", "\u{0}", "\u{a0}"] {
            assert_eq!(formed(Form::Plain, blank), Value::Blank, "{blank:?}");
        }
    }

    #[test]
    fn forms_level_punctuation_only() {
        for (form, written, expected) in [
            (Form::Phone, "(555) 010-0199", "555-010-0199"),
            (Form::Phone, "555.010.0199", "555-010-0199"),
            (Form::Phone, "+1 555 010 0199", "555-010-0199"),
            (Form::Phone, "1-555-010-0199", "555-010-0199"),
            (Form::Phone, "+49 30 901820", "+4930901820"),
            (Form::Phone, "(03) 5555 6473", "0355556473"),
            (Form::Phone, "555-010-0199 x12", "555-010-0199 x12"),
            (Form::Phone, "ask at desk", "ask at desk"),
            (Form::Phone, "-", "-"),
            (Form::Email, "Test.Patient@Example.ORG ", "test.patient@example.org"),
            (Form::PostalCode, "123456789", "12345-6789"),
            (Form::PostalCode, "12345-6789", "12345-6789"),
            (Form::PostalCode, "k1a  0b1", "K1A 0B1"),
        ] {
            assert_eq!(formed(form, written), Value::Text(expected.into()), "{written}");
        }
    }

    #[test]
    fn a_value_of_another_type_stays_different() {
        assert_eq!(
            canonical(FieldType::Number, Form::Plain, Value::Text(" 1.50 ".into())),
            Value::Number("1.5".into())
        );
        assert_eq!(
            canonical(FieldType::Number, Form::Plain, Value::Text("about 2".into())),
            Value::Text("about 2".into())
        );
        assert_eq!(canonical(FieldType::Flag, Form::Plain, Value::Number("1.0".into())), Value::Flag(true));
        assert_eq!(canonical(FieldType::Flag, Form::Plain, Value::Text("0".into())), Value::Flag(false));
        assert_eq!(canonical(FieldType::Flag, Form::Plain, Value::Text("maybe".into())), Value::Text("maybe".into()));
        assert_eq!(canonical(FieldType::Flag, Form::Plain, Value::Blank), Value::Blank);
        assert_eq!(canonical(FieldType::Text, Form::Plain, Value::Number("0042".into())), Value::Text("0042".into()));
    }
}
