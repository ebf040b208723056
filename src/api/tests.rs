//! The API as a caller meets it: a real server on a free port of the loopback, with a database that is away.

use super::edge::{Limits, guard};
use super::problem::{CODES, Code, Problem};
use super::{Metrics, Readiness, Settings, State, bind, openapi, services};
use crate::clock::{ManualClock, Timestamp};
use crate::metrics::Registry;
use crate::query::{self, Engine};
use crate::store::{Address, Database};
use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, try_call_service};
use actix_web::{App, HttpRequest, HttpResponse, web};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A server that runs until its test ends.
struct TestApi {
    base: String,
    readiness: Readiness,
    handle: actix_web::dev::ServerHandle,
}

/// An answer, read to its end.
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl TestApi {
    async fn start() -> Self {
        let away = std::env::temp_dir().join("flowledger-no-such-directory");
        let address = Address::Socket { directory: away, port: 1, user: "nobody".into(), database: "none".into() };
        let database = Database::new(&address).unwrap();
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let readiness = Readiness::default();
        let state = State {
            engine: Engine::new(database.clone(), Arc::new(ManualClock::default()), query::Settings::default(), &[]),
            database,
            zone: chrono_tz::Europe::Berlin,
            max_bytes: None,
            clock: Arc::new(ManualClock::new(Timestamp::from_micros(1_795_435_200_000_000))),
            readiness: readiness.clone(),
            registry: Arc::new(registry),
            metrics,
        };
        let settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            workers: 1,
            allowed_hosts: vec!["flows.example".to_owned()],
            ..Settings::default()
        };
        let bound = bind(&settings, state).unwrap();
        let base = format!("http://{}", bound.address());
        let server = bound.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { base, readiness, handle }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let ask = move || {
            let agent: ureq::Agent =
                ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
            let mut response = agent.run(request).unwrap();
            let body = response.body_mut().read_to_vec().unwrap();
            Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    async fn stop(self) {
        self.handle.stop(true).await;
    }
}

/// The documented paths, with the names of their query parameters.
fn documented() -> Vec<(String, BTreeSet<String>)> {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut list = Vec::new();
    for (path, item) in paths {
        assert_eq!(item.as_object().unwrap().keys().collect::<Vec<_>>(), ["get"], "{path}");
        let parameters = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let names = query.map(|parameter| parameter["name"].as_str().unwrap().to_owned());
        list.push((path.clone(), names.collect()));
    }
    list
}

#[actix_web::test]
async fn every_route_is_documented_and_every_documented_path_is_a_route() {
    // The debug form of actix's map of resources is the only list of what is registered.
    let app = init_service(
        App::new()
            .route("/map", web::get().to(|request: HttpRequest| async move { format!("{:?}", request.resource_map()) }))
            .configure(services),
    )
    .await;
    let map = actix_web::test::call_and_read_body(&app, TestRequest::get().uri("/map").to_request()).await;
    let map = String::from_utf8(map.to_vec()).unwrap();
    let registered: BTreeSet<&str> =
        map.split("Single(\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(pattern, _)| pattern).collect();
    let paths = documented();
    let mut expected: BTreeSet<&str> = BTreeSet::from(["", "/api/v1", "/map", "/", "/docs", "/docs/{page:.*}"]);
    expected.extend(paths.iter().map(|(path, _)| path.strip_prefix("/api/v1").unwrap_or(path)));
    assert_eq!(registered, expected);
}

#[actix_web::test]
async fn the_documented_parameters_are_those_that_are_read() {
    let api = TestApi::start().await;
    for (path, names) in documented() {
        let answer = api.get(&format!("{}?zzzzzzzz=1", path.replace("{ip}", "10.0.0.1").replace("{id}", "1"))).await;
        assert_eq!(answer.code(), "unknown_parameter", "{path}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        let read = detail.split_once("it takes ").unwrap().1.trim_end_matches('.').split(", ");
        let read: BTreeSet<String> = read.filter(|name| *name != "none").map(ToOwned::to_owned).collect();
        assert_eq!(read, names, "{path}");
    }
    api.stop().await;
}

#[test]
fn the_committed_description_is_the_one_that_is_served() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    if std::env::var_os("OVERWRITE").is_some() {
        std::fs::write(file, openapi::text().unwrap()).unwrap();
    }
    assert!(
        std::fs::read_to_string(file).unwrap() == openapi::text().unwrap(),
        "openapi/openapi.json is not the API's description; write it anew: cargo run -- openapi > openapi/openapi.json"
    );
}

#[test]
fn the_description_names_every_field_code_and_shape() {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let words = |schema: &Value| schema["enum"].as_array().unwrap().len();
    let names = crate::flow::fields::CATALOGUE.len() + crate::flow::fields::PAIRS.len();
    assert_eq!(words(&schemas["FieldName"]), names);
    assert_eq!(words(&schemas["Problem"]["properties"]["code"]), CODES.len());
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(reference), "{reference} is referred to and missing");
    }
    for (shape, schema) in schemas {
        for name in schema["properties"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            // A member that may be null is never absent, so it is required all the same.
            let required = schema["required"].as_array().unwrap();
            assert!(required.iter().any(|member| member == name), "{shape}.{name} is never absent");
        }
    }
}

#[actix_web::test]
async fn every_wrong_question_gets_its_code() {
    let api = TestApi::start().await;
    let long = format!("/api/v1/top?filter={}", "x".repeat(9_000));
    for (path, code) in [
        ("/api/v1/top?limt=5", "unknown_parameter"),
        ("/api/v1/top?limit=5&limit=6", "repeated_parameter"),
        ("/api/v1/top?limit=0", "invalid_parameter"),
        ("/api/v1/top?limit=10001", "invalid_parameter"),
        ("/api/v1/top?order=size", "invalid_parameter"),
        ("/api/v1/top?counters=exact", "invalid_parameter"),
        ("/api/v1/hosts/10.0.0.1?counters=", "invalid_parameter"),
        ("/api/v1/hosts/10.0.0.1/peers?counters=Raw", "invalid_parameter"),
        ("/api/v1/top?format=xml", "invalid_parameter"),
        ("/api/v1/top?by=ip,port", "invalid_parameter"),
        ("/api/v1/top?by=dst_ipp", "invalid_field"),
        ("/api/v1/top?week=2026-W60", "invalid_window"),
        ("/api/v1/top?tz=Mars", "invalid_window"),
        ("/api/v1/exporters?tz=Mars", "invalid_window"),
        ("/api/v1/top?filter=dst%20ip", "invalid_filter"),
        ("/api/v1/hosts/10.0.0.300", "invalid_address"),
        ("/api/v1/hosts/%FF/peers", "invalid_address"),
        ("/api/v1/hosts/10.0.0.1/peers?direction=both", "invalid_parameter"),
        ("/api/v1/hosts/10.0.0.1/peers?by=dst_ip", "unknown_parameter"),
        ("/api/v1/nothing", "not_found"),
        ("/nothing", "not_found"),
        ("/docs/nothing.js", "not_found"),
        (long.as_str(), "uri_too_long"),
        ("/readyz", "not_ready"),
        ("/api/v1/exporters", "storage_unavailable"),
        ("/api/v1/top", "storage_unavailable"),
        ("/api/v1/hosts/10.0.0.1", "storage_unavailable"),
        ("/api/v1/hosts/10.0.0.1/peers", "storage_unavailable"),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.code(), code, "{path}: {}", answer.text());
        let row = CODES.iter().find(|row| row.1 == code).unwrap();
        let problem = answer.json();
        assert_eq!(answer.status, row.2.as_u16(), "{path}");
        assert_eq!((&problem["status"], &problem["title"]), (&answer.status.into(), &row.3.into()), "{path}");
        assert_eq!(problem["type"], format!("urn:flowledger:problem:{code}"));
        assert!(problem["detail"].is_string() && problem.as_object().unwrap().contains_key("position"), "{path}");
        assert_eq!(problem["position"].is_null(), code != "invalid_filter", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
    let position =
        api.get("/api/v1/top?filter=src%20ip%2010.0.0.1%20und%20proto%20tcp").await.json()["position"].clone();
    assert_eq!(position, 16);
    let answer = api.ask("GET", "/api/v1/top", &[("Accept", "image/png")]).await;
    assert_eq!(answer.code(), "not_acceptable");
    let answer = api.ask("GET", "/healthz", &[("Accept-Encoding", "br, identity;q=0, *;q=0")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (406, "not_acceptable"));
    let answer = api.ask("DELETE", "/api/v1/top", &[]).await;
    assert_eq!((answer.code().as_str(), answer.header("allow")), ("method_not_allowed", "GET, HEAD"));
    api.stop().await;
}

#[actix_web::test]
async fn head_is_get_without_its_body_and_headers_keep_a_browser_at_bay() {
    let api = TestApi::start().await;
    let (get, head) = (api.get("/api/v1/fields").await, api.ask("HEAD", "/api/v1/fields", &[]).await);
    assert_eq!((get.status, head.status, head.body.len()), (200, 200, 0));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("access-control-allow-origin", ""),
    ] {
        assert_eq!(get.header(name), value, "{name}");
    }
    assert!(get.header("content-security-policy").starts_with("default-src 'none'; frame-ancestors"));
    api.stop().await;
}

#[actix_web::test]
async fn big_answers_are_compressed_and_small_ones_are_not() {
    let api = TestApi::start().await;
    let gzip = [("Accept-Encoding", "gzip")];
    let big = api.ask("GET", "/api/v1/fields", &gzip).await;
    assert_eq!((big.header("content-encoding"), &big.body[..2]), ("gzip", [0x1f, 0x8b].as_slice()));
    let small = api.ask("GET", "/api/v1/hosts/x", &gzip).await;
    assert_eq!(small.header("content-encoding"), "", "{}", small.header("content-type"));
    api.stop().await;
}

#[actix_web::test]
async fn the_pages_show_this_description_and_nothing_foreign() {
    let api = TestApi::start().await;
    for path in ["/", "/docs"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (302, "/docs/"));
    }
    let page = api.get("/docs/?url=https://example.com/evil.json").await;
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").contains("script-src 'self';"));
    let script = api.get("/docs/swagger-initializer.js").await;
    assert!(script.text().contains("\"/openapi.json\"") && !script.text().contains("petstore"), "{}", script.text());
    assert!(script.text().contains("\"queryConfigEnabled\": false"), "{}", script.text());
    let document = api.get("/openapi.json").await;
    assert_eq!((document.status, document.text()), (200, openapi::text().unwrap().as_str()));
    api.stop().await;
}

#[actix_web::test]
async fn what_is_no_number_of_an_exporter_is_not_found_without_asking_the_database() {
    let api = TestApi::start().await;
    for id in ["core-1", "-1", "4294967296", "1.5"] {
        let answer = api.get(&format!("/api/v1/exporters/{id}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{id}");
    }
    assert_eq!(api.get("/api/v1/exporters/1?last=never").await.code(), "invalid_window");
    api.stop().await;
}

#[actix_web::test]
async fn requests_are_counted_by_route_and_class_never_by_path() {
    let api = TestApi::start().await;
    for path in ["/api/v1/hosts/a", "/api/v1/hosts/b", "/x/1", "/x/2", "/healthz"] {
        api.get(path).await;
    }
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        r#"flowledger_api_requests_total{route="/api/v1/hosts/{ip}",status="4xx"} 2"#,
        r#"flowledger_api_requests_total{route="none",status="4xx"} 2"#,
        r#"flowledger_api_requests_total{route="/healthz",status="2xx"} 1"#,
    ] {
        assert!(metrics.text().contains(line), "{line} is missing in:\n{}", metrics.text());
    }
    api.stop().await;
}

#[actix_web::test]
async fn ready_means_database_and_ingest() {
    let api = TestApi::start().await;
    assert_eq!(api.get("/healthz").await.text(), r#"{"status":"ok"}"#);
    assert_eq!(api.get("/readyz").await.header("retry-after"), "5");
    api.readiness.set_database(true);
    api.readiness.set_ingest(true);
    let answer = api.get("/readyz").await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#));
    api.stop().await;
}

#[actix_web::test]
async fn a_panic_a_standstill_and_a_body_end_in_problems() {
    let metrics = Metrics::default();
    let limits = Limits { max_url_bytes: 100, allowed_hosts: Vec::new(), timeout: Duration::from_millis(50), metrics };
    let app = init_service(
        App::new()
            .app_data(web::Data::new(limits))
            .wrap(from_fn(guard))
            .route("/panic", web::get().to(async || -> HttpResponse { panic!("a secret") }))
            .route("/wait", web::get().to(async || -> HttpResponse { std::future::pending().await })),
    )
    .await;
    for (path, code) in [("/panic", Code::Internal), ("/wait", Code::QueryTimeout)] {
        let error = try_call_service(&app, TestRequest::get().uri(path).to_request()).await.unwrap_err();
        let problem = error.as_error::<Problem>().unwrap();
        assert_eq!(problem.code, code);
        assert!(!problem.detail.contains("secret"), "{}", problem.detail);
        let response = error.error_response();
        assert_eq!(response.status(), code.status());
        assert_eq!(response.headers().get("x-content-type-options").unwrap(), "nosniff");
    }
    let body = TestRequest::get().uri("/wait").insert_header(("Content-Length", "5")).to_request();
    assert_eq!(call_service(&app, body).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[actix_web::test]
async fn a_taken_address_says_which_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let away = Address::Url("postgres://nobody@127.0.0.1:1/none".into());
    let database = Database::new(&away).unwrap();
    let state = State {
        engine: Engine::new(database.clone(), Arc::new(ManualClock::default()), query::Settings::default(), &[]),
        database,
        zone: chrono_tz::UTC,
        max_bytes: None,
        clock: Arc::new(ManualClock::default()),
        readiness: Readiness::default(),
        registry: Arc::new(Registry::default()),
        metrics: Metrics::default(),
    };
    let settings = Settings { listen: listen.clone(), ..Settings::default() };
    let Err(error) = bind(&settings, state) else { panic!("bound a taken address") };
    assert!(error.to_string().contains(&listen) && error.to_string().contains("[api] listen"), "{error}");
}

#[actix_web::test]
async fn on_the_loopback_only_addresses_and_known_names_are_hosts() {
    let api = TestApi::start().await;
    for host in
        ["localhost", "LocalHost:8080", "127.0.0.1", "192.0.2.7:8080", "[::1]", "[::1]:8080", "Flows.Example:443", ""]
    {
        assert_eq!(api.ask("GET", "/healthz", &[("host", host)]).await.status, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "[::1].evil.example", "a b"] {
        let answer = api.ask("GET", "/healthz", &[("host", host)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "unknown_host"), "{host}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(host) && detail.contains("[api] allowed_hosts"), "{detail}");
    }
    api.stop().await;
}
