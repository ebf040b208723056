//! Which fields are exported, by the words people have for them.

use super::error::ExportError;
use crate::flow::fields::{CATALOGUE, Field};

/// How alike two words must be for one to be meant by the other, 0 to 1.
const ALIKE: f64 = 0.75;

/// The fields in `words`, which has names of the catalogue or nfdump's words for them, with commas in between.
///
/// # Errors
/// [`ExportError::Field`] with the name that is nearest, [`ExportError::Twice`].
pub fn parse(words: &str) -> Result<Vec<Field>, ExportError> {
    let mut fields = Vec::new();
    for word in words.split(',').map(str::trim) {
        let field = Field::parse(word).ok_or_else(|| unknown(word))?;
        if fields.contains(&field) {
            return Err(ExportError::Twice { name: field.name() });
        }
        fields.push(field);
    }
    Ok(fields)
}

fn unknown(word: &str) -> ExportError {
    let word: String = word.chars().take(60).collect::<String>().to_ascii_lowercase();
    let names = CATALOGUE.iter().flat_map(|row| row.nfdump.iter().copied().chain([row.name]));
    let nearest = names
        .map(|name| (strsim::jaro_winkler(&word, name), name))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    let hint = match nearest {
        Some((_, name)) => format!("; did you mean {name}?"),
        None => "; /api/v1/fields lists all fields".to_owned(),
    };
    ExportError::Field { word, hint }
}
