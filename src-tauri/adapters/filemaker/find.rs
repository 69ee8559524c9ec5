//! Finding by key: a criterion that means the key and nothing else.
//!
//! In a find request, some characters are operators (FileMaker help, "Finding ranges of information"; fact sheet 11).
//! One that slips through unescaped finds too much, which would change the wrong patient, or nothing, which would make a
//! second record. So all are escaped, and whoever finds still compares what came back byte for byte: `==` ignores case.

/// The criterion "the whole field is exactly this".
pub(super) fn exactly(key: &str) -> String {
    format!("=={}", escaped(key))
}

/// Puts `\` before everything that FileMaker reads as an operator: single characters wherever they are, `.` and `/` only
/// where two or more stand together (`..`, `...`, `//`).
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 8);
    let chars: Vec<char> = key.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let operator = match c {
            '\\' | '=' | '!' | '<' | '≤' | '>' | '≥' | '…' | '?' | '@' | '#' | '*' | '"' | '~' => true,
            '.' | '/' => at.checked_sub(1).is_some_and(|before| chars[before] == c) || chars.get(at + 1) == Some(&c),
            _ => false,
        };
        if operator {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Whether a key can be asked for at all: something, and on one line.
pub(super) fn askable(key: &str) -> bool {
    !key.is_empty() && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn every_operator_is_escaped() {
        for (key, criterion) in [
            ("8f2c-41", "==8f2c-41"),
            ("a.b", "==a.b"),
            ("a/b", "==a/b"),
            ("1...5", r"==1\.\.\.5"),
            ("1..5", r"==1\.\.5"),
            ("a@b", r"==a\@b"),
            ("//", r"==\/\/"),
            (r"a\b", r"==a\\b"),
            ("\"a\"", "==\\\"a\\\""),
            ("=a", r"==\=a"),
            ("<≤>≥…?#*~!", r"==\<\≤\>\≥\…\?\#\*\~\!"),
        ] {
            assert_eq!(exactly(key), criterion, "{key}");
        }
    }

    /// What a find engine makes of a criterion: its literal text, or `None` if an operator is left in it.
    fn read(criterion: &str) -> Option<String> {
        let mut out = String::new();
        let mut chars = criterion.strip_prefix("==")?.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => out.push(chars.next()?),
                '=' | '!' | '<' | '≤' | '>' | '≥' | '…' | '?' | '@' | '#' | '*' | '"' | '~' => return None,
                '.' | '/' if chars.peek() == Some(&c) => return None,
                _ => out.push(c),
            }
        }
        Some(out)
    }

    #[test]
    fn any_key_comes_through_as_itself() {
        const ALPHABET: &[char] = &[
            'a', 'Z', '0', '-', '.', '.', '/', '/', '\\', '=', '!', '<', '≤', '>', '≥', '…', '?', '@', '#', '*', '"',
            '~', ' ', 'é', '名',
        ];
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let key: String =
                (0..rng.random_range(0..12)).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())]).collect();
            assert_eq!(read(&exactly(&key)).as_deref(), Some(key.as_str()));
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_not_asked_for() {
        assert!(askable("8f2c-41"));
        assert!(!askable(""));
        assert!(!askable("a\rb"));
    }
}
