//! What is wrong with a recipe, said so that it can be mended.
use std::fmt;
use std::ops::Range;

/// A mistake in a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// File name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The line itself.
    pub source_line: String,
    /// How many characters of it are meant.
    pub width: usize,
}

impl Mistake {
    /// At bytes `span` of `text`.
    pub fn at(text: &str, span: Range<usize>, message: String, hint: &str) -> Self {
        let start = span.start.min(text.len());
        let before = text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        let source_line = text[line_start..].lines().next().unwrap_or("").to_owned();
        let column = before[line_start..].chars().count() + 1;
        let room = source_line.chars().count().saturating_sub(column - 1).max(1);
        Self {
            file: String::new(),
            line: before.matches('\n').count() + 1,
            column,
            message,
            hint: hint.to_owned(),
            source_line,
            width: span.len().clamp(1, room),
        }
    }

    /// From the parser.
    pub fn from_toml(error: &toml::de::Error, text: &str) -> Self {
        let message = error.message().trim().to_owned();
        let hint = unknown_field(&message).and_then(|(name, known)| nearest(name, known));
        let hint = hint.map(|n| format!("did you mean '{n}'?")).unwrap_or_default();
        Self::at(text, error.span().unwrap_or(0..0), message, &hint)
    }

    /// Says which file it is in.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        self.file = file.to_owned();
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        writeln!(f, "{number} | {}", self.source_line)?;
        let indent = " ".repeat(number.len() + 3 + self.column - 1);
        write!(f, "{indent}{}", "^".repeat(self.width))?;
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistake {}

/// The name and the list in "unknown field `x`, expected one of `a`, `b`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (name, rest) = rest.split_once('`')?;
    Some((name, rest.split('`').skip(1).step_by(2).collect()))
}

/// The known name nearest to `name`, if it is near.
fn nearest<'a>(name: &str, known: Vec<&'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|k| (distance(name, k), k)).min()?;
    (best.0 <= name.len().max(3) / 2).then_some(best.1)
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
