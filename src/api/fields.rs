//! `GET /api/v1/fields`: the field catalogue, for people and for user interfaces.
//!
//! Everything here comes from the catalogue; a new field needs no change in this file.

use super::format;
use super::params::Asked;
use super::problem::Problem;
use crate::flow::fields::{CATALOGUE, Dimension, Kind, PAIRS};
use actix_web::{HttpResponse, get};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The name of a field or pair, as OpenAPI lists them.
#[derive(Debug)]
pub struct DimensionName;

impl PartialSchema for DimensionName {
    fn schema() -> RefOr<Schema> {
        let names = CATALOGUE.iter().map(|row| row.name).chain(PAIRS.iter().map(|pair| pair.0));
        let list = CATALOGUE.iter().fold(String::from("What rows can be grouped by.\n\n"), |mut list, row| {
            list.push_str(&format!("* `{}`: {}\n", row.name, row.description));
            list
        });
        let list = PAIRS.iter().fold(list, |mut list, (name, _, source, destination)| {
            list.push_str(&format!("* `{name}`: {}\n", pair_description(source.name(), destination.name())));
            list
        });
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).description(Some(list)).into()
    }
}

impl ToSchema for DimensionName {
    fn name() -> Cow<'static, str> {
        "FieldName".into()
    }
}

/// One field, or a pair of fields.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Field)]
pub struct FieldShape {
    /// The name in questions, answers, CSV heads and SQL.
    #[schema(example = "dst_ip")]
    pub name: &'static str,
    /// nfdump's words for it, accepted wherever the name is.
    #[schema(example = json!(["dstip"]))]
    pub nfdump: Vec<&'static str>,
    /// How values are written: `number` as a JSON integer, `time` as RFC 3339, `address` and `mac` as text.
    #[schema(example = "address")]
    pub r#type: &'static str,
    /// The type of the column in the SQL table `flows`; null for a pair, which is no column.
    #[schema(example = "inet", required = true)]
    pub sql_type: Option<&'static str>,
    /// For a pair, the two fields on whose sides a flow counts; null for a field.
    #[schema(example = json!(null), required = true)]
    pub pair: Option<[&'static str; 2]>,
    /// What it is, with the unit.
    #[schema(example = "Destination address.")]
    pub description: Cow<'static, str>,
}

/// Every field a flow can have, and every pair.
#[derive(Debug, Serialize, ToSchema)]
pub struct Fields {
    /// Fields in the order of the catalogue, then pairs.
    pub fields: Vec<FieldShape>,
}

const fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => "number",
        Kind::Time => "time",
        Kind::Address => "address",
        Kind::Mac => "mac",
    }
}

fn pair_description(source: &str, destination: &str) -> String {
    format!("Either of {source} and {destination}; a flow counts for each of its two values.")
}

/// The whole list.
fn all() -> Fields {
    let fields = CATALOGUE.iter().map(|row| FieldShape {
        name: row.name,
        nfdump: row.nfdump.to_vec(),
        r#type: type_name(row.kind),
        sql_type: Some(row.sql_type),
        pair: None,
        description: row.description.into(),
    });
    let pairs = PAIRS.iter().map(|&(name, word, source, destination)| FieldShape {
        name,
        nfdump: vec![word],
        r#type: type_name(Dimension::Either { name, source, destination }.kind()),
        sql_type: None,
        pair: Some([source.name(), destination.name()]),
        description: pair_description(source.name(), destination.name()).into(),
    });
    Fields { fields: fields.chain(pairs).collect() }
}

/// All fields that rows can be grouped by
///
/// The catalogue: names, nfdump's words for them, types and meanings. Pairs count a flow on both of its sides.
#[utoipa::path(
    tag = "Server",
    operation_id = "fields",
    responses(
        (status = 200, description = "All fields and pairs.", body = Fields),
        (status = "4XX", description = "The request cannot be answered.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/fields")]
pub async fn get_fields(_none: Asked<()>) -> Result<HttpResponse, Problem> {
    format::json(&all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_pair_is_listed_with_its_words() {
        let fields = all().fields;
        assert_eq!(fields.len(), CATALOGUE.len() + PAIRS.len());
        for field in &fields {
            for name in field.nfdump.iter().chain([&field.name]) {
                assert_eq!(Dimension::parse(name).map(Dimension::name), Some(field.name));
            }
        }
        let ip = fields.iter().find(|field| field.name == "ip").unwrap();
        assert_eq!(
            serde_json::to_value(ip).unwrap(),
            serde_json::json!({"name": "ip", "nfdump": ["ip"], "type": "address", "sql_type": null,
                "pair": ["src_ip", "dst_ip"],
                "description": "Either of src_ip and dst_ip; a flow counts for each of its two values."})
        );
    }
}
