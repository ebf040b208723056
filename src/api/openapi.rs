//! The description of the API, `/openapi.json`, and the pages at `/docs` that are made from it.
//!
//! Paths and shapes are collected from the very services that answer, so the document cannot lack a route. It is also
//! committed as `openapi/openapi.json`; `flowledger openapi` writes it.

use super::format::FormatName;
use super::hosts::DirectionName;
use super::params::{Asked, OrderName};
use super::routes;
use actix_web::http::header::LOCATION;
use actix_web::{App, HttpResponse, get};
use std::sync::LazyLock;
use utoipa::OpenApi;
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Everything about the API that is no route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flowledger",
        description = include_str!("introduction.md"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(OrderName, FormatName, DirectionName)),
    servers((url = "/", description = "This server.")),
    tags(
        (name = "Questions", description = "Who used the network, and with whom."),
        (name = "Server", description = "What can be asked about, where flows come from, and whether the server is well."),
    )
)]
struct Base;

/// The whole description.
pub fn document() -> utoipa::openapi::OpenApi {
    App::new().into_utoipa_app().openapi(Base::openapi()).configure(routes).split_for_parts().1
}

/// The whole description as indented JSON with a line end, the same bytes at every call.
///
/// # Errors
/// Never, as long as the document holds nothing that JSON cannot.
pub fn text() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&document())?;
    text.push('\n');
    Ok(text)
}

static TEXT: LazyLock<String> = LazyLock::new(|| text().unwrap_or_default());

/// This description
#[utoipa::path(
    tag = "Server",
    operation_id = "openapi",
    responses(
        (status = 200, description = "The API as an OpenAPI 3.1 document.", body = Object, content_type = "application/json"),
        (status = "4XX", description = "The request cannot be answered.", body = super::problem::Problem, content_type = "application/problem+json"),
    )
)]
#[get("/openapi.json")]
pub async fn get_openapi(_none: Asked<()>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("Content-Type", "application/json"))
        .insert_header(("Cache-Control", "no-cache"))
        .body(TEXT.as_str())
}

/// The pages at `/docs/`. They read this server's description and no other, whatever their address says.
pub fn pages() -> SwaggerUi {
    let config = Config::new(["/openapi.json"])
        .query_config_enabled(false)
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .default_models_expand_depth(0)
        .validator_url("none");
    SwaggerUi::new("/docs/{page:.*}").config(config)
}

/// Sends people who come without a path to the pages.
#[get("/")]
pub async fn get_root() -> HttpResponse {
    to_pages()
}

/// The same without the slash.
#[get("/docs")]
pub async fn get_docs() -> HttpResponse {
    to_pages()
}

fn to_pages() -> HttpResponse {
    HttpResponse::Found().insert_header((LOCATION, "/docs/")).finish()
}
