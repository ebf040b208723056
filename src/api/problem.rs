//! What a caller is told when a request cannot be answered: RFC 9457 `application/problem+json`.
//!
//! [`CODES`] is the one table of codes. A code never changes its meaning, so programs may branch on it; `detail` is for
//! people and may change. What went wrong inside is logged once, here, under an id that the caller is given; the caller
//! never sees more of it. This module knows no resource.

use crate::filter::FilterError;
use crate::query::QueryError;
use crate::query::window::WindowError;
use crate::store::StoreError;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentEncoding, ContentType, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use std::fmt;
use utoipa::openapi::{ObjectBuilder, RefOr, schema::Schema};
use utoipa::{PartialSchema, ToSchema};

/// The media type of every problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($variant:ident $code:literal $status:ident $title:literal $meaning:literal;)+) => {
        /// Why a request could not be answered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = $meaning] $variant),+ }

        /// All codes with their status, title and meaning, in the order of the status.
        pub static CODES: &[(Code, &str, StatusCode, &str, &str)] =
            &[$((Code::$variant, $code, StatusCode::$status, $title, $meaning)),+];

        impl Code {
            /// The code as programs see it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// The same for every problem of this code.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST "Bad request" "The request is not valid HTTP.";
    UnknownParameter "unknown_parameter" BAD_REQUEST "Unknown query parameter" "The route has no query parameter of this name.";
    RepeatedParameter "repeated_parameter" BAD_REQUEST "Query parameter given twice" "A query parameter may stand once.";
    InvalidParameter "invalid_parameter" BAD_REQUEST "Invalid query parameter" "The value of a query parameter is out of its range or not one of its words.";
    InvalidField "invalid_field" BAD_REQUEST "Unknown field" "No field of the catalogue has this name; /api/v1/fields lists all.";
    InvalidWindow "invalid_window" BAD_REQUEST "Invalid window of time" "The window of time cannot be read, is empty, or is asked for in two ways.";
    InvalidFilter "invalid_filter" BAD_REQUEST "Invalid filter" "The filter cannot be read; position is the byte offset of the first word that does not fit.";
    InvalidAddress "invalid_address" BAD_REQUEST "Invalid address" "The path does not hold an IPv4 or IPv6 address.";
    NotFound "not_found" NOT_FOUND "No such resource" "There is nothing at this path.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "Method not allowed" "The resource can only be read: GET and HEAD.";
    NotAcceptable "not_acceptable" NOT_ACCEPTABLE "No acceptable format" "The Accept header allows none of the formats this resource has.";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "Request too slow" "The request did not arrive in time.";
    TooLarge "too_large" PAYLOAD_TOO_LARGE "Request too large" "The request has a body, and no resource takes one.";
    UriTooLong "uri_too_long" URI_TOO_LONG "URL too long" "Path and query together are longer than the server allows.";
    UnknownHost "unknown_host" MISDIRECTED_REQUEST "Unknown host name" "The request asks for a host by a name that this server does not go by; [api] allowed_hosts lists further names.";
    QueryTooLarge "query_too_large" UNPROCESSABLE_ENTITY "Query too large" "The answer has more groups than the memory for one query holds; ask for a shorter window, fewer dimensions or a narrower filter.";
    WindowNotOnHours "window_not_on_hours" UNPROCESSABLE_ENTITY "Window not on whole hours" "Of an hour that the window cuts only totals are left, not the flows; the detail names the nearest windows that can be answered.";
    Internal "internal" INTERNAL_SERVER_ERROR "Internal error" "A fault of the server; its log has the cause under the id that the detail names.";
    NotReady "not_ready" SERVICE_UNAVAILABLE "Not ready" "The server is starting or stopping.";
    StorageUnavailable "storage_unavailable" SERVICE_UNAVAILABLE "Storage unavailable" "The database cannot be asked at the moment; its log entry has the id that the detail names.";
    QueryTimeout "query_timeout" GATEWAY_TIMEOUT "Query took too long" "The query used up its time; ask for a shorter window or a narrower filter.";
}

impl Code {
    /// The code for an answer of `status` that some lower layer gave without saying more.
    fn of_status(status: StatusCode) -> Self {
        let known = CODES.iter().find(|row| row.2 == status).map(|row| row.0);
        known.unwrap_or(if status.is_client_error() { Self::BadRequest } else { Self::Internal })
    }
}

/// A request that could not be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people: what was wrong, where, and what to do.
    pub detail: String,
    /// For a filter: the byte offset of the first word that does not fit.
    pub position: Option<usize>,
}

impl Problem {
    /// A problem without a position.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), position: None }
    }

    /// A problem of ours: `cause` goes into the log, and the caller gets the id under which it stands there.
    pub fn hidden(code: Code, cause: &dyn fmt::Display) -> Self {
        let id = uuid::Uuid::new_v4();
        tracing::error!(%id, code = code.name(), cause = %cause, "a request failed");
        Self::new(code, format!("{} The server's log has the cause under id {id}.", code.title_sentence()))
    }

    /// The problem for an answer of `status` that some lower layer gave without saying more.
    pub fn of_status(status: StatusCode) -> Self {
        let code = Code::of_status(status);
        let meaning = CODES.iter().find(|row| row.0 == code).map_or("", |row| row.4);
        Self::new(code, meaning)
    }
}

impl Code {
    /// The title as a sentence.
    fn title_sentence(self) -> String {
        format!("{}.", self.title())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.title(), self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        let position = Some(error.position);
        Self { code: Code::InvalidFilter, detail: sentence(&error), position }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::hidden(if error.is_outage() { Code::StorageUnavailable } else { Code::Internal }, &error)
    }
}

impl From<WindowError> for Problem {
    fn from(error: WindowError) -> Self {
        Self::new(Code::InvalidWindow, sentence(&error))
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Request { .. } => Self::new(Code::InvalidParameter, sentence(&error)),
            QueryError::WindowNotOnHours { .. } => Self::new(Code::WindowNotOnHours, sentence(&error)),
            QueryError::Memory { .. } => Self::new(Code::QueryTooLarge, sentence(&error)),
            QueryError::Time { .. } => Self::new(Code::QueryTimeout, sentence(&error)),
            QueryError::Store(error) => error.into(),
            QueryError::Cancelled | QueryError::Columns { .. } | QueryError::Worker(_) => {
                Self::hidden(Code::Internal, &error)
            }
        }
    }
}

/// An error as a sentence: with a full stop and, where it begins with a word, a capital letter.
fn sentence(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let stop = if text.ends_with('.') { "" } else { "." };
    first.into_iter().chain(letters).chain(stop.chars()).collect()
}

/// The members of a problem, in the order people read them.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    position: Option<usize>,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let body = Body {
            r#type: type_of(self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.name(),
            detail: &self.detail,
            position: self.position,
        };
        let mut response = HttpResponse::build(self.code.status());
        response.insert_header(ContentType(MEDIA_TYPE.parse().unwrap_or(actix_web::mime::APPLICATION_JSON)));
        response.insert_header(("Cache-Control", HeaderValue::from_static("no-store")));
        response.insert_header(ContentEncoding::Identity);
        if self.code.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header(("Retry-After", HeaderValue::from_static("5")));
        }
        if self.code == Code::MethodNotAllowed {
            response.insert_header(("Allow", HeaderValue::from_static("GET, HEAD")));
        }
        response.body(serde_json::to_string(&body).unwrap_or_default())
    }
}

/// The URI that names a kind of problem. It is a name, not an address.
fn type_of(code: &str) -> String {
    format!("urn:flowledger:problem:{code}")
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        use utoipa::openapi::schema::{KnownFormat, SchemaFormat, SchemaType, Type};
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let codes = CODES.iter().fold(String::from("Stable; programs may branch on it.\n\n"), |mut list, row| {
            list.push_str(&format!("* `{}` ({}): {}\n", row.1, row.2.as_u16(), row.4));
            list
        });
        ObjectBuilder::new()
            .description(Some("Why a request could not be answered (RFC 9457)."))
            .property("type", text().description(Some("The code as a URI; a name, not an address.")))
            .required("type")
            .property("title", text().description(Some("The same for every problem of this code.")))
            .required("title")
            .property(
                "status",
                ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
                    .description(Some("The HTTP status.")),
            )
            .required("status")
            .property("code", text().enum_values(Some(CODES.iter().map(|row| row.1))).description(Some(codes)))
            .required("code")
            .property("detail", text().description(Some("What was wrong, where, and what to do; for people.")))
            .required("detail")
            .property(
                "position",
                ObjectBuilder::new()
                    .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
                    .minimum(Some(0))
                    .description(Some("For `invalid_filter`: the byte offset in the filter, from 0; otherwise null.")),
            )
            .required("position")
            .examples([serde_json::json!({
                "type": type_of("unknown_parameter"),
                "title": Code::UnknownParameter.title(),
                "status": 400,
                "code": "unknown_parameter",
                "detail": "There is no parameter limt here; did you mean limit?",
                "position": null,
            })])
            .into()
    }
}

impl ToSchema for Problem {
    fn name() -> std::borrow::Cow<'static, str> {
        "Problem".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{HOUR, Timestamp};
    use crate::query::Window;
    use actix_web::body::to_bytes;
    use std::collections::HashSet;

    #[test]
    fn codes_are_different_words_and_none_is_a_success() {
        let mut names = HashSet::new();
        for (code, name, status, title, meaning) in CODES {
            assert!(names.insert(*name), "{name} stands twice");
            assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{name}");
            assert!(status.is_client_error() || status.is_server_error(), "{name}");
            assert!(!title.is_empty() && meaning.ends_with('.'), "{name}");
            assert_eq!((code.name(), code.status(), code.title()), (*name, *status, *title));
        }
        assert!(CODES.is_sorted_by_key(|row| row.2.as_u16()));
    }

    #[actix_web::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_a_null_position() {
        let response = Problem::new(Code::InvalidAddress, "x is no address").error_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers().get("content-type").unwrap(), MEDIA_TYPE);
        let body = to_bytes(response.into_body()).await.unwrap();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"type":"urn:flowledger:problem:invalid_address","title":"Invalid address","status":400,"code":"invalid_address","detail":"x is no address","position":null}"#
        );
    }

    #[test]
    fn what_went_wrong_inside_stays_inside() {
        let problem = Problem::hidden(Code::Internal, &"password=hunter2");
        assert!(!problem.detail.contains("hunter2") && problem.detail.contains("id "), "{}", problem.detail);
    }

    #[test]
    fn errors_from_below_get_the_code_that_tells_the_caller_what_to_do() {
        let at = Timestamp::from_micros(1_795_392_000_000_000);
        let outer = Window { from: at, to: at.plus(HOUR), zone: chrono_tz::Asia::Kathmandu };
        let cut = QueryError::WindowNotOnHours { inner: None, outer };
        let detail = Problem::from(QueryError::WindowNotOnHours { inner: None, outer }).detail;
        assert!(detail.ends_with("ask from 2026-11-23T05:45:00+05:45 to 2026-11-23T06:45:00+05:45."), "{detail}");
        let away = || StoreError::Silent { seconds: 1 };
        let request = QueryError::Request { parameter: "by", message: "too many".into() };
        for (error, code) in [
            (request, Code::InvalidParameter),
            (QueryError::Memory { limit: 1 }, Code::QueryTooLarge),
            (QueryError::Time { limit: 1 }, Code::QueryTimeout),
            (cut, Code::WindowNotOnHours),
            (QueryError::Cancelled, Code::Internal),
            (QueryError::Store(away()), Code::StorageUnavailable),
        ] {
            assert_eq!(Problem::from(error).code, code);
        }
        let damaged = StoreError::Unexpected { place: "loss", detail: "x".into() };
        assert_eq!(Problem::from(damaged).code, Code::Internal);
        let problem = Problem::from(QueryError::Request { parameter: "by", message: "too many".into() });
        assert_eq!(problem.detail, "By: too many.");
    }

    #[test]
    fn an_answer_without_words_gets_the_code_of_its_status() {
        assert_eq!(Problem::of_status(StatusCode::URI_TOO_LONG).code, Code::UriTooLong);
        assert_eq!(Problem::of_status(StatusCode::IM_A_TEAPOT).code, Code::BadRequest);
        assert_eq!(Problem::of_status(StatusCode::BAD_GATEWAY).code, Code::Internal);
    }
}
