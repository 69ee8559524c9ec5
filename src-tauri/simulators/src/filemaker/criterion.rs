//! One find criterion: operators, escaping, and whether a value meets it.
//!
//! Facts: sheet section 11. The operators and `\` as escape [DOC]; case-insensitive comparison [GEN]; `@` in an e-mail
//! address is a wildcard and finds nothing unless escaped [ISS]; dates in criteria follow `dateformats` [DOC].
//! Ours [GEN]: words are split at white space and punctuation except `. - _ '`; accents are not folded; a date in a time
//! stamp field means the whole day; text in a number criterion matches nothing; an operator character in a place where
//! it has no meaning stands for itself.

use super::answer::Refused;
use super::value::{DateFormat, Key, ResultType, Value, decimal, fold, read_date, read_stamp, read_time};
use jiff::civil::{Date, DateTime};
use std::ops::Bound;

/// How literals of one request are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Literals {
    pub(super) format: DateFormat,
    pub(super) today: Date,
    /// The code for a date, time or stamp that cannot be read.
    pub(super) refuse_with: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Criterion {
    Nothing,
    Empty,
    Filled,
    Duplicated,
    /// `==`: the whole field.
    Whole(Vec<Token>),
    /// Each phrase is a run of words; `exact`: whole words, otherwise the last word of a phrase may go on.
    Words {
        phrases: Vec<Vec<Vec<Token>>>,
        exact: bool,
    },
    Containing(String),
    Between(Bound<Key>, Bound<Key>),
    /// A number by its shortest decimal form, so that long ones keep their digits.
    Number(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Char(char),
    AnyChar,
    AnyDigit,
    Anything,
    Quote,
    Dots,
}

fn lex(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut quoted = false;
    let mut at = 0;
    while at < chars.len() {
        let dots = chars[at..].iter().take_while(|c| **c == '.').count();
        match chars[at] {
            '\\' => {
                let rest = &chars[at + 1..];
                let dots = rest.iter().take_while(|c| **c == '.').count();
                let literal = if rest.starts_with(&['/', '/']) { 2 } else { dots.max(1).min(rest.len()) };
                tokens.extend(rest[..literal].iter().map(|c| Token::Char(*c)));
                at += literal;
            }
            '"' => {
                quoted = !quoted;
                tokens.push(Token::Quote);
            }
            c if quoted => tokens.push(Token::Char(c)),
            '.' if dots >= 2 => {
                tokens.push(Token::Dots);
                at += dots - 1;
            }
            '…' => tokens.push(Token::Dots),
            '@' => tokens.push(Token::AnyChar),
            '#' => tokens.push(Token::AnyDigit),
            '*' => tokens.push(Token::Anything),
            c => tokens.push(Token::Char(c)),
        }
        at += 1;
    }
    tokens
}

fn literal(tokens: &[Token]) -> Option<String> {
    tokens
        .iter()
        .filter(|token| **token != Token::Quote)
        .map(|token| if let Token::Char(c) = token { Some(*c) } else { None })
        .collect()
}

impl Criterion {
    pub(super) fn read(raw: &str, result: ResultType, literals: Literals) -> Result<Self, Refused> {
        let raw = fold(raw.trim_start_matches('~'));
        match raw.as_str() {
            "=" | "==" => return Ok(Self::Empty),
            "*" => return Ok(Self::Filled),
            "!" => return Ok(Self::Duplicated),
            // No value that cannot be read as date or time is ever stored here.
            "?" => return Ok(Self::Nothing),
            _ => {}
        }
        for (operator, inclusive, upper) in [
            ("<=", true, true),
            ("≤", true, true),
            (">=", true, false),
            ("≥", true, false),
            ("<", false, true),
            (">", false, false),
        ] {
            if let Some(operand) = raw.strip_prefix(operator) {
                let Some((first, last)) = span(&lex(operand.trim()), result, literals)? else {
                    return Ok(Self::Nothing);
                };
                return Ok(match (upper, inclusive) {
                    (true, true) => Self::Between(Bound::Excluded(Key::Empty), Bound::Included(last)),
                    (true, false) => Self::Between(Bound::Excluded(Key::Empty), Bound::Excluded(first)),
                    (false, true) => Self::Between(Bound::Included(first), Bound::Unbounded),
                    (false, false) => Self::Between(Bound::Excluded(last), Bound::Unbounded),
                });
            }
        }
        let (whole, exact, operand) = match (raw.strip_prefix("=="), raw.strip_prefix('=')) {
            (Some(operand), _) => (true, true, operand),
            (None, Some(operand)) => (false, true, operand),
            (None, None) => (false, false, raw.as_str()),
        };
        let tokens = lex(operand);
        if let Some(dots) = tokens.iter().position(|token| *token == Token::Dots) {
            let ends = (span(&tokens[..dots], result, literals)?, span(&tokens[dots + 1..], result, literals)?);
            return Ok(match ends {
                (Some((first, _)), Some((_, last))) => Self::Between(Bound::Included(first), Bound::Included(last)),
                _ => Self::Nothing,
            });
        }
        if result != ResultType::Text {
            return Ok(match (span(&tokens, result, literals)?, result) {
                (None, _) => Self::Nothing,
                (Some(_), ResultType::Number) => {
                    Self::Number(literal(&tokens).and_then(|text| decimal(text.trim())).unwrap_or_default())
                }
                (Some((first, last)), _) => Self::Between(Bound::Included(first), Bound::Included(last)),
            });
        }
        if whole {
            return Ok(Self::Whole(tokens.into_iter().filter(|token| *token != Token::Quote).collect()));
        }
        if let [Token::Anything, Token::Quote, inner @ .., Token::Quote] = tokens.as_slice()
            && let Some(text) = literal(inner)
        {
            return Ok(Self::Containing(text));
        }
        let phrases = phrases(&tokens);
        Ok(if phrases.is_empty() { Self::Nothing } else { Self::Words { phrases, exact } })
    }

    /// What an index can answer: a closed or half-open stretch of keys. The values found still have to be checked.
    pub(super) fn stretch(&self) -> Option<(Bound<Key>, Bound<Key>)> {
        match self {
            Self::Whole(tokens) => {
                literal(tokens).map(|text| (Bound::Included(Key::Text(text.clone())), Bound::Included(Key::Text(text))))
            }
            Self::Between(from, to) => Some((from.clone(), to.clone())),
            Self::Number(digits) => {
                let key = Value::Number(digits.clone()).key();
                Some((Bound::Included(key.clone()), Bound::Included(key)))
            }
            _ => None,
        }
    }

    /// `twice` tells whether another record holds an equal value.
    pub(super) fn met_by(&self, value: &Value, twice: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Empty => value.is_empty(),
            Self::Filled => !value.is_empty(),
            Self::Duplicated => !value.is_empty() && twice(),
            Self::Number(digits) => matches!(value, Value::Number(held) if held == digits),
            Self::Between(from, to) => {
                let key = value.key();
                let above = match from {
                    Bound::Included(from) => key >= *from,
                    Bound::Excluded(from) => key > *from,
                    Bound::Unbounded => true,
                };
                let below = match to {
                    Bound::Included(to) => key <= *to,
                    Bound::Excluded(to) => key < *to,
                    Bound::Unbounded => true,
                };
                !value.is_empty() && above && below
            }
            Self::Whole(tokens) => like(tokens, &held(value)),
            Self::Containing(text) => !value.is_empty() && fold(&value.text(DateFormat::US)).contains(text.as_str()),
            Self::Words { phrases, exact } => {
                let held = held(value);
                let words: Vec<&[char]> =
                    held.split(|c| separates(*c)).map(trimmed).filter(|word| !word.is_empty()).collect();
                phrases.iter().all(|phrase| {
                    words.windows(phrase.len()).any(|run| {
                        run.iter().zip(phrase).enumerate().all(|(at, (word, pattern))| {
                            like(pattern, word)
                                || (!exact
                                    && at + 1 == phrase.len()
                                    && like(&[pattern.as_slice(), &[Token::Anything]].concat(), word))
                        })
                    })
                })
            }
        }
    }
}

fn held(value: &Value) -> Vec<char> {
    fold(&value.text(DateFormat::US)).chars().collect()
}

fn separates(c: char) -> bool {
    !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '\''))
}

/// Points and dashes belong to a word only inside of it.
fn trimmed(word: &[char]) -> &[char] {
    let inner = |c: &char| c.is_alphanumeric();
    match (word.iter().position(inner), word.iter().rposition(inner)) {
        (Some(first), Some(last)) => &word[first..=last],
        _ => &[],
    }
}

fn phrases(tokens: &[Token]) -> Vec<Vec<Vec<Token>>> {
    let mut found = Vec::new();
    for (at, part) in tokens.split(|token| *token == Token::Quote).enumerate() {
        let words = part
            .split(|token| matches!(token, Token::Char(c) if separates(*c)))
            .map(|word| {
                let edge = |token: &&Token| matches!(token, Token::Char(c) if !c.is_alphanumeric());
                let from = word.iter().take_while(edge).count();
                let to = word.len() - word[from..].iter().rev().take_while(edge).count();
                word[from..to].to_vec()
            })
            .filter(|word| !word.is_empty());
        if at % 2 == 1 {
            found.push(words.collect());
        } else {
            found.extend(words.map(|word| vec![word]));
        }
    }
    found.retain(|phrase: &Vec<Vec<Token>>| !phrase.is_empty());
    found
}

/// First and last key that an operand stands for (a date in a stamp field: the day), or `None` if it matches nothing.
fn span(tokens: &[Token], result: ResultType, literals: Literals) -> Result<Option<(Key, Key)>, Refused> {
    let Some(text) = literal(tokens) else {
        return if matches!(result, ResultType::Text | ResultType::Number) {
            Ok(None)
        } else {
            Err(literals.refuse_with.into())
        };
    };
    let text = text.trim();
    let one = |key: Key| Some((key.clone(), key));
    let day = |date: Date| Some((Key::Stamp(date.at(0, 0, 0, 0)), Key::Stamp(date.at(23, 59, 59, 0))));
    let refused = || Refused::from(literals.refuse_with);
    Ok(match result {
        ResultType::Text => one(Key::Text(text.to_owned())),
        ResultType::Number => decimal(text).and_then(|digits| one(Value::Number(digits).key())),
        ResultType::Time => one(Key::Span(read_time(text).ok_or_else(refused)?)),
        ResultType::Date if text == "//" => one(Key::Stamp(literals.today.at(0, 0, 0, 0))),
        ResultType::Date => {
            let date = read_date(text, literals.format).ok_or_else(refused)?;
            one(Key::Stamp(date.at(0, 0, 0, 0)))
        }
        ResultType::TimeStamp if text == "//" => day(literals.today),
        ResultType::TimeStamp => match read_date(text, literals.format) {
            Some(date) => day(date),
            None => one(stamp(read_stamp(text, literals.format).ok_or_else(refused)?)),
        },
    })
}

fn stamp(at: DateTime) -> Key {
    Key::Stamp(at)
}

/// Wildcard match over the whole of `text`.
fn like(pattern: &[Token], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        let fits = match pattern.get(p) {
            Some(Token::Char(c)) => *c == text[t],
            Some(Token::AnyChar) => true,
            Some(Token::AnyDigit) => text[t].is_ascii_digit(),
            Some(Token::Anything) => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            _ => false,
        };
        if fits {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = back {
            back = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|token| *token == Token::Anything)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(criterion: &str, text: &str) -> bool {
        let literals = Literals { format: DateFormat::US, today: Date::constant(2024, 3, 5), refuse_with: 500 };
        let read = Criterion::read(criterion, ResultType::Text, literals).expect("text always reads");
        read.met_by(&Value::Text(text.to_owned()), || false)
    }

    fn stamped(criterion: &str, stamp: &str) -> Result<bool, u32> {
        let literals = Literals { format: DateFormat::US, today: Date::constant(2024, 3, 5), refuse_with: 500 };
        let value = Value::read(stamp, ResultType::TimeStamp, DateFormat::US).expect("a stamp");
        Criterion::read(criterion, ResultType::TimeStamp, literals)
            .map(|read| read.met_by(&value, || false))
            .map_err(|refused| refused.code)
    }

    #[test]
    fn text_operators() {
        assert!(meets("==Ada Lovelace", "ada lovelace"));
        assert!(!meets("==Ada", "ada lovelace"));
        assert!(meets("lov ad", "Ada Lovelace"));
        assert!(!meets("=lov", "Ada Lovelace"));
        assert!(meets("=lovelace", "Ada Lovelace"));
        assert!(meets("\"da lov\"", "Ada Da Lovelace"));
        assert!(!meets("\"lovelace ada\"", "Ada Lovelace"));
        assert!(meets("*\"a lov\"", "Ada Lovelace"));
        assert!(meets("==P@#*", "Px7abc"));
        assert!(!meets("==P@#", "Pxx"));
        assert!(meets("a...c", "b"));
        assert!(!meets("a...b", "c"));
        assert!(meets(">=m", "n") && !meets("<m", "n"));
        assert!(meets("*", "x") && !meets("=", "x") && !meets("?", "x"));
    }

    #[test]
    fn escapes_take_operators_literally() {
        assert!(!meets("ada@example.org", "ada@example.org"), "the classic false negative");
        assert!(meets(r"ada\@example.org", "ada@example.org"));
        assert!(meets(r"==ada\@example.org", "ada@example.org"));
        assert!(meets("==ada@example.org", "adaXexample.org"), "and the false positive");
        assert!(meets(r"==1\...5", "1...5") && meets(r"==1\.\.\.5", "1...5"));
        assert!(meets("==1...5", "3") && !meets(r"==1\...5", "3"), "unescaped dots are a range");
        assert!(meets(r"==\=\=\\\*\#\?\!\<\>\≤\≥\…\~\//", r#"==\*#?!<>≤≥…~//"#));
        assert!(meets(r#"==say \"hi\""#, r#"say "hi""#));
    }

    #[test]
    fn stamps_compare_by_second_and_dates_mean_days() {
        assert_eq!(stamped(">=03/05/2024 10:00:00", "03/05/2024 10:00:00"), Ok(true));
        assert_eq!(stamped(">03/05/2024 10:00:00", "03/05/2024 10:00:00"), Ok(false));
        assert_eq!(stamped("03/05/2024", "03/05/2024 10:00:00"), Ok(true));
        assert_eq!(stamped("//", "03/05/2024 10:00:00"), Ok(true));
        assert_eq!(stamped("03/01/2024...03/05/2024", "03/05/2024 10:00:00"), Ok(true));
        assert_eq!(stamped("<=03/04/2024", "03/05/2024 10:00:00"), Ok(false));
        assert_eq!(stamped(">=2024-03-05 10:00:00", "03/05/2024 10:00:00"), Err(500));
    }
}
