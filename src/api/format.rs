//! In which format an answer goes out: JSON, CSV or NDJSON, by `?format=` or by the `Accept` header.
//!
//! Ranked rows are a [`Table`] for JSON and NDJSON; CSV is written by `reports`, so that a report and an answer are the
//! same bytes. CSV and NDJSON hold rows only; what stands around the rows in JSON travels in the header
//! [`ANSWER_HEADER`]. This module knows no resource.

use super::problem::{Code, Problem};
use actix_web::http::header::{Accept, ContentEncoding, HeaderName, HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, http::header::Header};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// The header that tells of a CSV or NDJSON answer what JSON has around the rows.
pub const ANSWER_HEADER: &str = "flowledger-answer";

/// Answers shorter than this many bytes are not compressed: it would cost more than it saves.
const COMPRESS_FROM: usize = 1_400;

/// A format of ranked rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object with the rows and everything about them.
    Json,
    /// A head and one line a row.
    Csv,
    /// One object a row.
    Ndjson,
}

/// The format of an answer.
#[derive(utoipa::ToSchema)]
#[schema(as = Format, rename_all = "snake_case", default = "json")]
pub enum FormatName {
    /// One object with the rows and everything about them.
    Json,
    /// A head and one line a row.
    Csv,
    /// One object a row.
    Ndjson,
}

impl Format {
    const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Ndjson];

    /// The word for `?format=`.
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The media type without parameters.
    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The format that `request` wants: by `name` if there is one, else by its `Accept` header, else JSON.
    pub fn of(request: &HttpRequest, name: Option<&str>) -> Result<Self, Problem> {
        if let Some(name) = name {
            let named = Self::ALL.into_iter().find(|format| format.name() == name);
            return named.ok_or_else(|| super::params::invalid("format", name, "json, csv or ndjson"));
        }
        match Accept::parse(request) {
            Ok(accept) if !accept.is_empty() => Self::accepted(&accept),
            _ => Ok(Self::Json),
        }
    }

    /// The first format that `accept` allows, in the order of the caller's preference.
    fn accepted(accept: &Accept) -> Result<Self, Problem> {
        let refused = |format: Self| {
            accept.iter().any(|range| {
                range.item.essence_str() == format.media_type()
                    && range.quality == actix_web::http::header::Quality::ZERO
            })
        };
        for range in accept.ranked() {
            let allowed = Self::ALL.into_iter().find(|format| {
                let (kind, _) = format.media_type().split_once('/').unwrap_or_default();
                let wildcard = range.type_() == "*" || (range.type_() == kind && range.subtype() == "*");
                (wildcard && !refused(*format)) || range.essence_str() == format.media_type()
            });
            if let Some(format) = allowed {
                return Ok(format);
            }
        }
        let detail = "The Accept header allows neither application/json, text/csv nor application/x-ndjson; \
                      ask for one of them, or use ?format=json, csv or ndjson.";
        Err(Problem::new(Code::NotAcceptable, detail))
    }
}

/// One value of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Nothing is known: `null` in JSON, an empty cell in CSV.
    Missing,
    /// A count, index or code.
    Integer(u64),
    /// A share.
    Real(f64),
    /// An address or a moment.
    Text(String),
}

/// Rows with named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The name of each column.
    pub columns: Vec<&'static str>,
    /// The cells of each row, one a column.
    pub rows: Vec<Vec<Cell>>,
}

/// One row as an object.
struct Object<'a>(&'a [&'static str], &'a [Cell]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, cell) in self.0.iter().zip(self.1) {
            map.serialize_entry(name, cell)?;
        }
        map.end()
    }
}

impl Serialize for Table {
    /// An array of objects.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in &self.rows {
            rows.serialize_element(&Object(&self.columns, row))?;
        }
        rows.end()
    }
}

impl Table {
    /// The rows as one JSON object a line.
    fn to_ndjson(&self) -> Result<String, Problem> {
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&to_json(&Object(&self.columns, row))?);
            text.push('\n');
        }
        Ok(text)
    }
}

fn to_json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::hidden(Code::Internal, &error))
}

/// An answer that has JSON only.
pub fn json(value: &impl Serialize) -> Result<HttpResponse, Problem> {
    Ok(respond("application/json", to_json(value)?))
}

/// An answer with ranked rows in the format asked for.
///
/// `shape` makes the object with its rows, which is the body in JSON, or without them, which is the header otherwise.
pub fn ranked<'t, S: Serialize>(
    format: Format,
    table: &'t Table,
    csv: impl FnOnce() -> Result<String, Problem>,
    shape: impl FnOnce(Option<&'t Table>) -> S,
) -> Result<HttpResponse, Problem> {
    let mut response = match format {
        Format::Json => return json(&shape(Some(table))).map(vary),
        Format::Csv => respond("text/csv; charset=utf-8; header=present", csv()?),
        Format::Ndjson => respond("application/x-ndjson", table.to_ndjson()?),
    };
    let around = HeaderValue::from_str(&ascii(&to_json(&shape(None))?));
    let around = around.map_err(|error| Problem::hidden(Code::Internal, &error))?;
    response.headers_mut().insert(HeaderName::from_static(ANSWER_HEADER), around);
    Ok(vary(response))
}

/// Says to caches that the answer depends on the `Accept` header.
fn vary(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    response
}

/// JSON with everything beyond ASCII escaped, so that it fits a header.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0u16; 2];
    for letter in json.chars() {
        if (' '..='~').contains(&letter) {
            text.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// An answer that must not be kept, since the next one may differ.
fn respond(media_type: &'static str, body: String) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header(("Content-Type", media_type)).insert_header(("Cache-Control", "no-store"));
    if body.len() < COMPRESS_FROM {
        response.insert_header(ContentEncoding::Identity);
    }
    response.body(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn table() -> Table {
        Table {
            columns: vec!["rank", "dst_ip", "share"],
            rows: vec![
                vec![Cell::Integer(1), Cell::Text("10.0.0.1".into()), Cell::Real(0.25)],
                vec![Cell::Integer(2), Cell::Text("a\nb".into()), Cell::Missing],
            ],
        }
    }

    #[test]
    fn json_and_ndjson_have_the_same_fields_in_the_same_order() {
        let json = r#"{"rank":1,"dst_ip":"10.0.0.1","share":0.25}"#;
        let other = r#"{"rank":2,"dst_ip":"a\nb","share":null}"#;
        assert_eq!(serde_json::to_string(&table()).unwrap(), format!("[{json},{other}]"));
        assert_eq!(table().to_ndjson().unwrap(), format!("{json}\n{other}\n"));
    }

    #[test]
    fn the_format_comes_from_the_name_then_from_accept_then_is_json() {
        let of = |accept: Option<&str>, name: Option<&str>| {
            let mut request = TestRequest::get();
            if let Some(accept) = accept {
                request = request.insert_header(("Accept", accept));
            }
            Format::of(&request.to_http_request(), name)
        };
        assert_eq!(of(None, None), Ok(Format::Json));
        assert_eq!(of(Some("*/*"), None), Ok(Format::Json));
        assert_eq!(of(Some("text/csv"), None), Ok(Format::Csv));
        assert_eq!(of(Some("text/*"), None), Ok(Format::Csv));
        assert_eq!(of(Some("text/csv;q=0.5, application/x-ndjson"), None), Ok(Format::Ndjson));
        assert_eq!(of(Some("application/json;q=0, */*"), None), Ok(Format::Csv));
        assert_eq!(of(Some("text/html,application/xhtml+xml,*/*;q=0.8"), None), Ok(Format::Json));
        assert_eq!(of(Some("text/csv"), Some("json")), Ok(Format::Json));
        assert_eq!(of(Some("image/png"), None).unwrap_err().code, Code::NotAcceptable);
        assert_eq!(of(None, Some("xml")).unwrap_err().code, Code::InvalidParameter);
    }

    #[test]
    fn a_header_is_ascii_and_still_the_same_json() {
        let text = serde_json::to_string("Zürich 😀").unwrap();
        let escaped = ascii(&text);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), "Zürich 😀");
    }
}
