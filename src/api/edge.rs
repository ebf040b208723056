//! What every request passes on its way in and out: limits, time, panics, headers, counting.
//!
//! Whatever a resource or a layer below does, the caller gets a problem with a code instead of an empty error, and
//! headers that keep a browser from doing more than showing the answer. Counts by the pattern of the route, never by the
//! path a caller invented.

use super::problem::{self, Code, Problem};
use crate::metrics::{Counter, EncodeLabelSet, Family, Registry};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Answers and their content have no part in a page.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// The pages of `/docs` load their own scripts, styles and images, and ask this server.
const POLICY_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// By what requests are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The pattern of the route, such as `/api/v1/hosts/{ip}`; `none` when no route matches.
    pub route: String,
    /// `2xx`, `3xx`, `4xx` or `5xx`.
    pub status: &'static str,
}

/// What the API counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
}

impl Metrics {
    /// Shows the counters in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "api_requests",
            "HTTP requests answered, by route and class of status",
            self.requests.clone(),
        );
    }
}

/// What a request is held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest path and query together, in bytes.
    pub max_url_bytes: usize,
    /// Host names that are accepted on the loopback, besides `localhost` and all addresses.
    pub allowed_hosts: Vec<String>,
    /// The longest time an answer may take.
    pub timeout: Duration,
    /// Where answers are counted.
    pub metrics: Metrics,
}

/// Passes a request on, within the limits, and makes the answer presentable.
pub async fn guard(
    limits: web::Data<Limits>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let route = request.resource_map().match_pattern(request.path()).unwrap_or_else(|| "none".to_owned());
    let docs = route.starts_with("/docs");
    if let Some(problem) = refusal(&request, &limits) {
        let response = problem.error_response();
        count(&limits.metrics, route, response.status());
        return Ok(request.into_response(finish(response, docs)));
    }
    // HEAD is GET without the body, which the protocol layer leaves out.
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    let answer = AssertUnwindSafe(next.call(request)).catch_unwind();
    let problem = match tokio::time::timeout(limits.timeout, answer).await {
        Ok(Ok(Ok(response))) => {
            let response = response.map_into_boxed_body();
            count(&limits.metrics, route, response.status());
            let (request, response) = response.into_parts();
            return Ok(ServiceResponse::new(request, finish(explained(response), docs)));
        }
        Ok(Ok(Err(error))) => Problem::of_status(error.as_response_error().status_code()),
        Ok(Err(panic)) => Problem::hidden(Code::Internal, &format!("a handler panicked: {}", panic_words(&*panic))),
        Err(_) => {
            let seconds = limits.timeout.as_secs();
            let detail = format!("No answer within {seconds} s; ask for a shorter window or a narrower filter.");
            Problem::new(Code::QueryTimeout, detail)
        }
    };
    // The request went down with its handler, so there is none to answer: what is left is to fail with the problem.
    count(&limits.metrics, route, problem.status_code());
    let mut error = Error::from(problem);
    error.add_response_mapper(move |response| finish(response, docs));
    Err(error)
}

/// Why a request is not even looked at.
fn refusal(request: &ServiceRequest, limits: &Limits) -> Option<Problem> {
    let max_url_bytes = limits.max_url_bytes;
    let length = request.uri().path_and_query().map_or(0, |both| both.as_str().len());
    if length > max_url_bytes {
        let detail = format!("Path and query are {length} bytes long; at most {max_url_bytes} are read.");
        return Some(Problem::new(Code::UriTooLong, detail));
    }
    let headers = request.headers();
    // A page of somebody else can let its own name point to the loopback (DNS rebinding); the browser still sends that name.
    if request.app_config().local_addr().ip().is_loopback() {
        let mut hosts = headers.get_all(HOST);
        if let Some(host) = hosts.find(|host| !accepted(host, &limits.allowed_hosts)) {
            let host = String::from_utf8_lossy(host.as_bytes());
            let detail = format!(
                "The request asks for the host \"{host}\". Use an address or localhost, or add the name to [api] allowed_hosts."
            );
            return Some(Problem::new(Code::UnknownHost, detail));
        }
    }
    let body =
        headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    (body && reads).then(|| Problem::new(Code::TooLarge, "The request has a body; ask with the query string alone."))
}

/// Whether a request to the loopback may name this host: an address, `localhost` or one of `allowed`, with a port or not.
fn accepted(host: &HeaderValue, allowed: &[String]) -> bool {
    if host.is_empty() {
        return true;
    }
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let name = authority.host();
    // Nothing but a port may follow, and nothing go before.
    if !authority.as_str().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
        return false;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || allowed.iter().any(|allowed| name.eq_ignore_ascii_case(allowed))
}

/// The answer, or a problem in its place when it is an error without words.
fn explained(response: HttpResponse<BoxBody>) -> HttpResponse<BoxBody> {
    let status = response.status();
    let worded = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == problem::MEDIA_TYPE);
    let failed = status.is_client_error() || status.is_server_error();
    if failed && !worded { Problem::of_status(status).error_response() } else { response }
}

/// The answer with the headers that every answer has.
fn finish(mut response: HttpResponse<BoxBody>, docs: bool) -> HttpResponse<BoxBody> {
    let headers: &mut HeaderMap = response.headers_mut();
    // "identity" only told the compression to leave the answer alone; it is no coding to announce (RFC 9110, 8.4).
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "identity") {
        headers.remove(CONTENT_ENCODING);
    }
    let policy = if docs { POLICY_DOCS } else { POLICY };
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, policy),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Counts one answer.
fn count(metrics: &Metrics, route: String, status: StatusCode) {
    let status = match status.as_u16() {
        ..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    };
    metrics.requests.get_or_create(&RequestLabels { route, status }).inc();
}

/// What a panic said.
fn panic_words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

/// The answer where no resource matches: wrong path, or wrong method for a path that exists.
pub async fn unrouted(request: HttpRequest) -> HttpResponse {
    let problem = if request.resource_map().match_pattern(request.path()).is_some() {
        Problem::new(Code::MethodNotAllowed, format!("{} is not for this resource: use GET or HEAD.", request.method()))
    } else {
        Problem::new(Code::NotFound, "There is nothing at this path; /docs lists what there is.")
    };
    problem.error_response()
}
